//! Texts of requests as the description has them: PostgreSQL keeps no NUL character, so every text is refused that has one.
//! Said once here, of all of them, instead of at every field.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr, Schema};

/// What a text without NUL characters matches.
const WITHOUT_NUL: &str = "^[^\\u0000]*$";

/// Gives every text of a request that has no other form its pattern.
pub(super) struct WithoutNul;

impl Modify for WithoutNul {
    fn modify(&self, document: &mut OpenApi) {
        let mut bodies = BTreeSet::new();
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            let parameters = operation.parameters.iter_mut().flatten().filter_map(here).filter_map(|it| it.schema.as_mut());
            let bodies_here = operation.request_body.iter_mut().filter_map(here).flat_map(|body| body.content.values_mut());
            let bodies_here = bodies_here.filter_map(here).filter_map(|content| content.schema.as_mut());
            parameters.chain(bodies_here).for_each(|schema| visit(schema, &mut bodies));
        }
        if let Some(components) = &mut document.components {
            visit_named(&mut components.schemas, bodies);
        }
    }
}

/// What is not said elsewhere.
fn here<T>(part: &mut RefOr<T>) -> Option<&mut T> {
    match part {
        RefOr::T(part) => Some(part),
        RefOr::Ref(_) => None,
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = path;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// What the bodies refer to, and what that refers to, each once.
fn visit_named(schemas: &mut BTreeMap<String, RefOr<Schema>>, mut unseen: BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    while let Some(name) = unseen.pop_first() {
        if seen.insert(name.clone())
            && let Some(schema) = schemas.get_mut(&name)
        {
            visit(schema, &mut unseen);
        }
    }
}

/// Changes what stands here, and notes the names of what stands elsewhere.
fn visit(schema: &mut RefOr<Schema>, names: &mut BTreeSet<String>) {
    match schema {
        RefOr::Ref(reference) => {
            names.extend(reference.ref_location.rsplit('/').next().map(str::to_owned));
        }
        RefOr::T(schema) => visit_here(schema, names),
    }
}

fn visit_here(schema: &mut Schema, names: &mut BTreeSet<String>) {
    match schema {
        Schema::Object(object) => {
            if is_free_text(object) {
                object.pattern = Some(WITHOUT_NUL.to_owned());
            }
            object.properties.values_mut().for_each(|property| visit(property, names));
            if let Some(property_names) = &mut object.property_names {
                visit_here(property_names, names);
            }
            if let Some(AdditionalProperties::RefOr(schema)) = object.additional_properties.as_deref_mut() {
                visit(schema, names);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                visit(items, names);
            }
        }
        Schema::OneOf(one_of) => one_of.items.iter_mut().for_each(|item| visit(item, names)),
        Schema::AllOf(all_of) => all_of.items.iter_mut().for_each(|item| visit(item, names)),
        Schema::AnyOf(any_of) => any_of.items.iter_mut().for_each(|item| visit(item, names)),
        _ => {}
    }
}

fn is_free_text(object: &Object) -> bool {
    let may_be_text = match &object.schema_type {
        SchemaType::Type(kind) => *kind == Type::String,
        SchemaType::Array(kinds) => kinds.contains(&Type::String),
        SchemaType::AnyValue => false,
    };
    may_be_text && object.format.is_none() && object.enum_values.is_none() && object.pattern.is_none()
}
