//! The API as OpenAPI describes it, made from the handlers and their types.

mod texts;

use std::collections::BTreeMap;

use actix_web::web;
use utoipa::openapi::response::Response;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use crate::http::discovery::{campaigns, items, jobs, lists, results};
use crate::http::openapi::texts::WithoutNul;
use crate::http::{events, overview, problem, usage, users};

/// `/openapi.json`, and `/docs`, whose files are within the binary. Neither shows anything but what this repository says.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config.service(web::redirect("/docs", "/docs/")).service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", document()));
}

/// The whole description.
pub fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "billsync", description = "Billing state, usage and discovery data of an application's users. \
        Errors are RFC 9457 problem documents; lists are paged by opaque cursors."),
    paths(users::list, users::show, users::update, overview::dashboard, overview::plans,
        usage::show, usage::consume, usage::release, events::list, events::list_of_user, events::show, events::replay,
        campaigns::list, campaigns::create, campaigns::show, campaigns::update, campaigns::delete,
        jobs::list, jobs::create, jobs::show, jobs::update, jobs::delete,
        results::list, results::create, results::show, results::update, results::delete,
        lists::list, lists::create, lists::show, lists::update, lists::delete,
        items::list, items::create, items::show, items::update, items::delete, items::order),
    components(schemas(problem::Document)),
    security(("bearer" = [])),
    modifiers(&Bearer, &WithoutNul),
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    }
}

/// What a read may be answered with instead of a 200.
pub(super) struct ReadRefusals;

impl IntoResponses for ReadRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&READ)
    }
}

/// What a write may be answered with instead of a success.
pub(super) struct WriteRefusals;

impl IntoResponses for WriteRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[READ.as_slice(), &WRITE].concat())
    }
}

const READ: [(&str, &str); 5] = [
    ("400", "A parameter cannot be read; `parameter` names it"),
    ("401", "No valid token"),
    ("403", "Not for this caller"),
    ("404", "No such thing, or somebody else's"),
    ("503", "The database does not answer; come back after Retry-After"),
];

const WRITE: [(&str, &str); 4] = [
    ("408", "The body did not arrive in time"),
    ("409", "It contradicts what is there"),
    ("413", "The body is too large"),
    ("415", "The body is not declared as application/json"),
];

fn problems(statuses: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let response = |description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        ResponseBuilder::new().description(description).content("application/problem+json", content).build()
    };
    statuses.iter().map(|(status, description)| ((*status).to_owned(), RefOr::T(response(description)))).collect()
}
