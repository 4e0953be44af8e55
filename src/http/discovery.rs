//! `/v1/campaigns`, `/v1/jobs` and `/v1/lists`: what users look for, what was found, and what they keep of it.

pub(super) mod campaigns;
pub(super) mod items;
pub(super) mod jobs;
pub(super) mod lists;
pub(super) mod results;

use actix_web::web;
use uuid::Uuid;

use crate::http::problem::Problem;

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config
        .configure(campaigns::mount)
        .configure(jobs::mount)
        .configure(results::mount)
        .configure(lists::mount)
        .configure(items::mount);
}

/// The id in a path: what is none is nobody's.
fn id_of(text: &str, what: &'static str) -> Result<Uuid, Problem> {
    // Only the usual form: the others would be second names of the same thing.
    let is_hyphenated = text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4;
    text.parse().ok().filter(|_| is_hyphenated).ok_or_else(|| Problem::no_such(what))
}

/// A row that was deleted, or was not there.
fn deleted(was_there: bool, what: &'static str) -> Result<actix_web::HttpResponse, Problem> {
    if was_there { Ok(actix_web::HttpResponse::NoContent().finish()) } else { Err(Problem::no_such(what)) }
}

/// An id of something else, refused by its name.
fn unknown(parameter: &str, what: &str) -> Problem {
    Problem::new(actix_web::http::StatusCode::NOT_FOUND, format!("`{parameter}`: there is no such {what}")).at(parameter)
}
