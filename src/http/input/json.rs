//! JSON of the caller's own that is kept as it is: what `jsonb` takes, and how that is described.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Depth of JSON that is kept.
const MAX_DEPTH: usize = 32;

/// Size of numbers that are kept: about as large as a float can be.
const MAX_NUMBER: f64 = 1e308;

/// An object, or `null`.
pub(in crate::http) fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    checked(deserializer, Value::is_object, "has to be an object")
}

/// An array.
pub(in crate::http) fn array<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let read = checked(deserializer, Value::is_array, "has to be an array")?;
    read.ok_or_else(|| D::Error::custom("has to be an array"))
}

fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    fits: fn(&Value) -> bool,
    otherwise: &'static str,
) -> Result<Option<Value>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    let checked = if fits(&value) { check(&value, MAX_DEPTH) } else { Err(otherwise) };
    checked.map(|()| Some(value)).map_err(D::Error::custom)
}

fn check(value: &Value, depth: usize) -> Result<(), &'static str> {
    if depth == 0 {
        return Err("is nested too deeply");
    }
    match value {
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth - 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, item)| {
            check_text(key)?;
            check(item, depth - 1)
        }),
        Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() > MAX_NUMBER) => Err("has too large a number"),
        _ => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), &'static str> {
    if text.contains('\0') { Err("contains a NUL character") } else { Ok(()) }
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
            .item(of_type(Type::Number).minimum(Some(-MAX_NUMBER)).maximum(Some(MAX_NUMBER)))
            .item(of_type(Type::String))
            .item(ArrayBuilder::new().items(Ref::from_schema_name("AnyJson")))
            .item(object_schema());
        any.description(Some(format!("JSON without NUL characters, at most {MAX_DEPTH} levels deep."))).into()
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
