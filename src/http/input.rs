//! What a request says, read strictly: an unknown, repeated, oversized or mistyped parameter is refused by its name, before
//! the database sees any of it.

pub(super) mod json;
pub(super) mod values;

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
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

/// A JSON object as the body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Body<T>, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), web::Payload::from_request(request, payload));
        Box::pin(async move {
            let services = request.app_data::<web::Data<Services>>().ok_or_else(Problem::not_found)?;
            let payload = payload.into_inner().map_err(|_| Problem::bad_request("the body could not be read"))?;
            let (body, _reservation) = read_body(&request, payload, &services.committer, services.body_bounds).await?;
            parse_body(&body).map(Body)
        })
    }
}

pub(super) fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would read an array as the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::bad_request("the body has to be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner());
        // Some wrong types are syntax errors to serde_json.
        if inner.is_data() || path != "." {
            at_fault(&path, &inner.to_string())
        } else {
            Problem::bad_request(format!("the body is not valid JSON: {inner}"))
        }
    })?;
    json.end().map_err(|error| Problem::bad_request(format!("the body is not valid JSON: {error}")))?;
    Ok(read)
}

/// serde names the place by its path, but an unknown, repeated or missing name only in its message.
fn at_fault(path: &str, message: &str) -> Problem {
    let message = message.split(" at line ").next().unwrap_or(message);
    let quoted = message.split('`').nth(1).unwrap_or("body");
    let (kind, _) = message.split_once('`').unwrap_or((message, ""));
    match kind.trim_end() {
        "unknown field" => Problem::bad_request(message.to_owned()).at(quoted),
        "duplicate field" => Problem::invalid(quoted, "is given twice"),
        "missing field" => Problem::invalid(quoted, "is missing"),
        _ if path == "." || path.is_empty() => Problem::bad_request(message.to_owned()),
        _ => Problem::invalid(path, format_args!("cannot be read: {message}")),
    }
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

    #[test]
    fn a_body_is_one_object() {
        for body in ["", "[]", "null", "{", "{}{}", "{\"limit\": 1e999}", "{\"name\": \"\\ud800\"}", "{\"limit\":\"1\"}"] {
            assert_eq!(parse_body::<Sample>(body.as_bytes()).expect_err(body).status_code(), 400, "{body}");
        }
        assert!(parse_body::<Sample>(b" {\"limit\": 3} ").is_ok());
    }
}
