//! What a request says, read strictly: an unknown, repeated, oversized or mistyped parameter is refused by its name, before
//! the database sees any of it.

pub(super) mod escaped;
pub(super) mod json;
pub(super) mod values;

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::body::read_body;
use crate::http::problem::Problem;
use crate::http::server::Services;

/// The query string.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Query<T>, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parse_query(request.query_string()).map(Query))
    }
}

pub(super) fn parse_query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let pairs = serde_urlencoded::Deserializer::new(form_pairs(text));
    serde_path_to_error::deserialize(pairs).map_err(|error| at_fault(&error.path().to_string(), &error.inner().to_string()))
}

pub(super) fn form_pairs(text: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(text.as_bytes())
}

/// No query string: a parameter that nobody reads is refused by its name rather than left unheard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

impl FromRequest for NoQuery {
    type Error = Problem;
    type Future = Ready<Result<NoQuery, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parse_query(request.query_string()))
    }
}

/// A JSON object as the body, and no query string.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Body<T>, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), web::Payload::from_request(request, payload));
        Box::pin(async move {
            let services = request.app_data::<web::Data<Services>>().ok_or_else(Problem::not_found)?;
            expect_only_json(&request)?;
            let payload = payload.into_inner().map_err(|_| Problem::bad_request("the body could not be read"))?;
            let (body, _reservation) = read_body(&request, payload, &services.committer, services.body_bounds).await?;
            parse_body(&body).map(Body)
        })
    }
}

/// Refuses a request with a query string, or with a body that is not declared as JSON.
pub(super) fn expect_only_json(request: &HttpRequest) -> Result<(), Problem> {
    let NoQuery {} = parse_query(request.query_string())?;
    let declared = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if is_json(declared) { Ok(()) } else { Err(Problem::unsupported_media_type()) }
}

/// `application/json`, in UTF-8 if it says in what.
fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json")
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

pub(super) fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would read an array as the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::bad_request("the body has to be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        // Some wrong types are syntax errors to serde_json. Within a name, there is no telling which one.
        if inner.is_data() || known(&path).is_some() {
            at_fault(&path, &inner.to_string())
        } else {
            Problem::bad_request(format!("the body is not valid JSON: {inner}"))
        }
    })?;
    json.end().map_err(|error| Problem::bad_request(format!("the body is not valid JSON: {error}")))?;
    Ok(read)
}

/// serde names the place by its path, but a repeated or missing name only in its message; so does [`json`] what is within a
/// field.
fn at_fault(path: &str, message: &str) -> Problem {
    let message = message.split(" at line ").next().unwrap_or(message);
    let quoted = message.split('`').nth(1).unwrap_or("body");
    let (kind, rest) = message.split_once('`').unwrap_or((message, ""));
    let place = known(path);
    let within = |name: &str| place.map_or_else(|| name.to_owned(), |place| format!("{place}.{name}"));
    match (kind.trim_end(), place) {
        ("unknown field", _) => {
            let name = place.filter(|place| place.ends_with(quoted)).map_or_else(|| within(quoted), str::to_owned);
            let told = if name == quoted { message.to_owned() } else { format!("`{name}`: {message}") };
            Problem::bad_request(told).at(name)
        }
        ("duplicate field", _) => Problem::invalid(&within(quoted), "is given twice"),
        ("missing field", _) => Problem::invalid(&within(quoted), "is missing"),
        ("", Some(place)) => {
            let reason = rest.rsplit_once('`').map_or(rest, |(_, reason)| reason);
            Problem::invalid(&format!("{place}{quoted}"), reason.trim_start())
        }
        (_, None) => Problem::bad_request(message.to_owned()),
        (_, Some(place)) => Problem::invalid(place, format_args!("cannot be read: {message}")),
    }
}

/// The part of a path that could be read; `None` for the whole.
fn known(path: &str) -> Option<&str> {
    let known = path.strip_suffix('?').map_or(path, |known| known.trim_end_matches('.'));
    Some(known).filter(|known| !known.is_empty() && *known != ".")
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use chrono::{DateTime, Utc};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default, deserialize_with = "values::instant")]
        since: Option<DateTime<Utc>>,
        #[serde(default, deserialize_with = "values::text::<_, 5>")]
        name: Option<String>,
        #[serde(default)]
        limit: Option<u8>,
    }

    fn refused(text: &str) -> String {
        let problem = parse_query::<Sample>(text).expect_err(text);
        assert_eq!(problem.status_code(), 400, "{text}");
        problem.to_string()
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, name) in [
            ("limit=x", "limit"),
            ("limit=", "limit"),
            ("limit=-1", "limit"),
            ("limit=256", "limit"),
            ("limit=1&limit=2", "limit"),
            ("limits=1", "limits"),
            ("name=123456", "name"),
            ("name=%00", "name"),
            ("since=yesterday", "since"),
            ("since=%2B010000-01-01T00:00:00Z", "since"),
            ("since=-0001-01-01T00:00:00Z", "since"),
        ] {
            assert!(refused(query).contains(&format!("`{name}`")), "{query}: {}", refused(query));
        }
        let read: Sample = parse_query("name=%C3%A9%27;--&limit=7&since=2026-01-01T00:00:00Z").expect("valid");
        assert_eq!((read.name.as_deref(), read.limit, read.since.is_some()), (Some("é';--"), Some(7), true));
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nested {
        #[serde(default)]
        #[expect(dead_code, reason = "only its mistakes are of interest")]
        marks: std::collections::BTreeMap<String, Sample>,
        #[serde(default, deserialize_with = "json::object")]
        kept: Option<crate::domain::json_text::JsonText>,
    }

    #[test]
    fn what_is_wrong_within_a_field_is_named_with_its_whole_path() {
        for (body, name) in [
            (r#"{"marks": {"a": {"limits": 1}}}"#, Some("marks.a.limits")),
            (r#"{"marks": {"a": {"limit": 1, "limit": 1}}}"#, Some("marks.a.limit")),
            (r#"{"marks": {"a": {"limit": "x"}}}"#, Some("marks.a.limit")),
            (r#"{"marks": {"a": {"since": "yesterday"}}}"#, Some("marks.a.since")),
            (r#"{"marks": {"a": 1}}"#, Some("marks.a")),
            (r#"{"marks": {"a\ud800": {}}}"#, Some("marks")),
            (r#"{"marks": {"a"#, Some("marks")),
            (r#"{"kept": {"a": [{"b": "\u0000"}]}}"#, Some("kept.a[0].b")),
            (r#"{"kept": {"a": 1e400}}"#, Some("kept.a")),
            (r#"{"kept": {"a\u0000": 1}}"#, Some("kept")),
            (r#"{"kept": []}"#, Some("kept")),
            (r#"{"kept": {"a" 1}}"#, Some("kept")),
            (r#"{"no_such": 1}"#, Some("no_such")),
            (r#"{"kept": {}, "kept": {}}"#, Some("kept")),
            (r#"{"a\ud800": 1}"#, None),
            (r#"{"ke"#, None),
        ] {
            let problem = parse_body::<Nested>(body.as_bytes()).expect_err(body);
            assert_eq!(problem.parameter(), name, "{body}: {problem}");
            assert!(
                !problem.to_string().contains('?') && name.is_none_or(|name| problem.to_string().contains(name)),
                "{problem}"
            );
        }
        let exact = r#"{"kept": {"a": 12345678901234567890123.4500}}"#;
        let read = parse_body::<Nested>(exact.as_bytes()).expect("valid").kept.expect("an object");
        assert_eq!(read.as_str(), r#"{"a": 12345678901234567890123.4500}"#);
    }

    #[test]
    fn a_body_is_declared_as_json() {
        for (declared, expected) in [
            ("application/json", true),
            ("Application/JSON ; charset=UTF-8", true),
            ("application/json; charset=\"utf-8\"; q=1", true),
            ("application/json;charset=latin1", false),
            ("application/jsonp", false),
            ("application/problem+json", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(is_json(declared), expected, "{declared}");
        }
    }

    #[test]
    fn a_body_is_one_object() {
        for body in ["", "[]", "null", "{", "{}{}", "{\"limit\": 1e999}", "{\"name\": \"\\ud800\"}", "{\"limit\":\"1\"}"] {
            assert_eq!(parse_body::<Sample>(body.as_bytes()).expect_err(body).status_code(), 400, "{body}");
        }
        assert!(parse_body::<Sample>(b" {\"limit\": 3} ").is_ok());
    }
}
