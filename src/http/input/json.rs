//! JSON of the caller's own that is kept as it is: what `jsonb` takes, and how that is described.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::json_text::{JsonText, Kind, STORABLE_DEPTH, STORABLE_NUMBER, Unstorable};

/// An object, or `null`.
pub(in crate::http) fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    checked(deserializer, Kind::Object, "has to be an object")
}

/// An array.
pub(in crate::http) fn array<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JsonText, D::Error> {
    let read = checked(deserializer, Kind::Array, "has to be an array")?;
    read.ok_or_else(|| D::Error::custom("has to be an array"))
}

/// The text is kept rather than a tree, which would round its numbers to doubles.
fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    kind: Kind,
    otherwise: &'static str,
) -> Result<Option<JsonText>, D::Error> {
    let Some(raw) = Option::<Box<RawValue>>::deserialize(deserializer)? else { return Ok(None) };
    let kept = JsonText::storable(raw.get()).map_err(|fault| D::Error::custom(tell(&fault)))?;
    if kept.kind() == Some(kind) { Ok(Some(kept)) } else { Err(D::Error::custom(otherwise)) }
}

/// The place within the field, as whoever names the field reads it.
fn tell(Unstorable { path, reason }: &Unstorable) -> String {
    if path.is_empty() { (*reason).to_owned() } else { format!("`{path}` {reason}") }
}

/// The description of any JSON without NUL characters.
#[derive(Debug)]
pub(in crate::http) struct AnyJson;

impl PartialSchema for AnyJson {
    fn schema() -> RefOr<Schema> {
        let of_type = |kind: Type| ObjectBuilder::new().schema_type(kind);
        let any = AnyOfBuilder::new()
            .item(of_type(Type::Null))
            .item(of_type(Type::Boolean))
            .item(of_type(Type::Number).minimum(Some(-STORABLE_NUMBER)).maximum(Some(STORABLE_NUMBER)))
            .item(of_type(Type::String))
            .item(ArrayBuilder::new().items(Ref::from_schema_name("AnyJson")))
            .item(object_schema());
        any.description(Some(format!(
            "JSON without NUL characters, at most {STORABLE_DEPTH} levels deep. Numbers are kept to the last digit."
        )))
        .into()
    }
}

impl ToSchema for AnyJson {}

/// The description of an object of such.
#[derive(Debug)]
pub(in crate::http) struct JsonObject;

impl PartialSchema for JsonObject {
    fn schema() -> RefOr<Schema> {
        object_schema().into()
    }
}

impl ToSchema for JsonObject {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("AnyJson".to_owned(), AnyJson::schema()));
    }
}

fn object_schema() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(ObjectBuilder::new().schema_type(Type::String)))
        .additional_properties(Some(AdditionalProperties::RefOr(Ref::from_schema_name("AnyJson").into())))
}
