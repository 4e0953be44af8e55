//! The SQL that turns a column's values into those of another type. No value stops it: what the new type cannot say becomes
//! NULL, and whoever prints the SQL counts those first and keeps them beside.

use crate::store::baseline::schema::Column;

/// How a column's values become those of another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    /// Of the old value.
    pub expression: String,
    /// What the expression calls, for the time of the session.
    pub function: Option<String>,
    /// Whether a value may become NULL.
    pub may_lose: bool,
}

/// A name as SQL writes it.
pub(super) fn quote(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain && !RESERVED.contains(&name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Words that a column or table may be called by only in quotation marks, as far as they are likely.
const RESERVED: [&str; 16] = [
    "user",
    "order",
    "group",
    "table",
    "column",
    "check",
    "default",
    "end",
    "limit",
    "offset",
    "references",
    "select",
    "to",
    "when",
    "where",
    "all",
];

/// What is inside the brackets of `character varying(50)`.
fn width(type_name: &str) -> Option<usize> {
    type_name.split_once('(')?.1.split_once(')')?.0.parse().ok()
}

fn base(type_name: &str) -> &str {
    type_name.split('(').next().unwrap_or(type_name).trim()
}

fn is_number(base: &str) -> bool {
    matches!(base, "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision")
}

/// How values of `from` become values of the type of `to`.
pub(super) fn convert(from: &Column, to: &Column) -> Conversion {
    let (value, old, new) = (quote(&from.name), base(&from.type_name), base(&to.type_name));
    let exact = |expression: String| Conversion { expression, function: None, may_lose: false };
    let lossy = |expression: String| Conversion { expression, function: None, may_lose: true };
    match new {
        "timestamp with time zone" if from.type_name.ends_with("without time zone") => {
            exact(format!("{value} at time zone 'UTC'"))
        }
        "timestamp with time zone" if from.type_name.ends_with("with time zone") && old == "timestamp" => {
            exact(format!("{value}::timestamptz"))
        }
        "timestamp with time zone" if old == "date" => exact(format!("{value}::timestamp at time zone 'UTC'")),
        // Seconds or milliseconds since the epoch: no date of a customer is below 1e11 milliseconds.
        "timestamp with time zone" if is_number(old) => lossy(format!(
            "case when abs({value}) < 1e11 then to_timestamp({value}::double precision) \
             when abs({value}) < 2e14 then to_timestamp({value}::double precision / 1000) end"
        )),
        // An id of another kind gets the same UUID wherever it stands, so that references go on holding.
        "uuid" => exact(format!(
            "case when {value}::text ~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' then {value}::text \
             else md5({value}::text) end::uuid"
        )),
        "text" => exact(as_text(&value, old)),
        "character varying" => match (width(&to.type_name), width(&from.type_name)) {
            (Some(new), Some(old_width)) if old == "character varying" && old_width <= new => exact(value),
            (Some(new), _) => {
                let text = as_text(&value, old);
                lossy(format!("case when length({text}) <= {new} then {text} end"))
            }
            (None, _) => exact(as_text(&value, old)),
        },
        "boolean" if is_number(old) => exact(format!("{value} <> 0")),
        "integer" if old == "smallint" => exact(format!("{value}::integer")),
        "integer" if is_number(old) => {
            lossy(format!("case when {value} between -2147483648 and 2147483647 then {value}::integer end"))
        }
        "integer" if old == "boolean" => exact(format!("{value}::integer")),
        "numeric" if is_number(old) || old == "money" => exact(format!("{value}::numeric")),
        // What is no JSON is a string of JSON.
        "jsonb" if matches!(old, "text" | "character varying" | "character") => {
            let (call, function) = attempt("jsonb", &format!("nullif({value}, '')"));
            Conversion {
                expression: format!("coalesce({call}, to_jsonb(nullif({value}, '')))"),
                function: Some(function),
                may_lose: false,
            }
        }
        "jsonb" if old != "json" => exact(format!("to_jsonb({value})")),
        _ => {
            let (call, function) = attempt(new, &format!("nullif(btrim({}), '')", as_text(&value, old)));
            Conversion { expression: call, function: Some(function), may_lose: true }
        }
    }
}

fn as_text(value: &str, old: &str) -> String {
    match old {
        "text" => value.to_owned(),
        "json" | "jsonb" => format!("({value} #>> '{{}}')"),
        _ => format!("{value}::text"),
    }
}

/// A cast that gives NULL where it fails, and the function that it takes. Times without a zone are UTC.
fn attempt(type_name: &str, value: &str) -> (String, String) {
    let short: String = type_name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let function = format!(
        "create or replace function pg_temp.billsync_{short}(value text) returns {type_name} language plpgsql \
         set timezone = 'UTC' as $convert$ begin return value::{type_name}; exception when others then return null; end $convert$;"
    );
    (format!("pg_temp.billsync_{short}({value})"), function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_need_it_are_quoted() {
        for (name, quoted) in
            [("user_id", "user_id"), ("userId", "\"userId\""), ("order", "\"order\""), ("a\"b", "\"a\"\"b\""), ("1st", "\"1st\"")]
        {
            assert_eq!(quote(name), quoted);
        }
    }

    #[test]
    fn types_are_read_apart_from_their_widths() {
        assert_eq!((base("character varying(50)"), width("character varying(50)")), ("character varying", Some(50)));
        assert_eq!((base("timestamp(3) without time zone"), width("numeric(10,2)")), ("timestamp", None));
    }
}
