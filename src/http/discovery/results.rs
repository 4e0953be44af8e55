//! `/v1/jobs/{job_id}/results`: what a job has found.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{deleted, id_of, json_array};
use crate::http::auth::Caller;
use crate::http::input::{Body, Query};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{Cursor, Limit, Page};
use crate::http::problem::Problem;
use crate::http::server::{Services, api_resource};
use crate::http::users::large_fields;
use crate::store::JobResult;

/// The name of the list in its cursors.
const LIST: &str = "results";

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config
        .service(api_resource("/jobs/{job_id}/results", "GET, POST").route(web::get().to(list)).route(web::post().to(create)))
        .service(
            api_resource("/jobs/{job_id}/results/{id}", "GET, PATCH, DELETE")
                .route(web::get().to(show))
                .route(web::patch().to(update))
                .route(web::delete().to(delete)),
        );
}

/// How to page through a job's results.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ResultQuery {
    /// `creators`: what was found.
    fields: Option<String>,
    cursor: Option<String>,
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// The results of a job, in the order in which they came
#[utoipa::path(get, path = "/v1/jobs/{job_id}/results", tag = "jobs", operation_id = "list_results",
    params(("job_id" = Uuid, Path), ResultQuery),
    responses((status = 200, description = "A page of results", body = Page<JobResult>), ReadRefusals))]
pub(in crate::http) async fn list(
    job_id: web::Path<String>,
    query: Query<ResultQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let Query(query) = query;
    let with_creators = !large_fields(query.fields.as_deref(), &["creators"])?.is_empty();
    let after = Cursor::read(query.cursor.as_deref(), LIST)?;
    let after = after.as_ref().map(Cursor::time_and_id).transpose()?;
    let (store, job_id) = (services.store()?, id_of(&job_id, "job")?);
    if !store.has_job(job_id, caller.owner()).await? {
        return Err(Problem::no_such("job"));
    }
    let rows = store.list_results(job_id, after, query.limit.rows(), with_creators).await?;
    Ok(HttpResponse::Ok().json(Page::of(rows, query.limit, |row| Cursor::at(LIST, row.created_at, row.id))))
}

/// What a job has found.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ResultBody {
    #[serde(deserialize_with = "creators")]
    #[schema(value_type = Vec<Value>)]
    creators: Value,
}

fn creators<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    json_array(deserializer)?.ok_or_else(|| serde::de::Error::custom("has to be an array"))
}

/// Add a result to a job
#[utoipa::path(post, path = "/v1/jobs/{job_id}/results", tag = "jobs", operation_id = "create_result",
    params(("job_id" = Uuid, Path)), request_body = ResultBody,
    responses((status = 201, description = "The result", body = JobResult), WriteRefusals))]
pub(in crate::http) async fn create(
    job_id: web::Path<String>,
    caller: Caller,
    body: Body<ResultBody>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let made = services.store()?.create_result(id_of(&job_id, "job")?, &body.0.creators, services.clock.now()).await?;
    Ok(HttpResponse::Created().json(made.ok_or_else(|| Problem::no_such("job"))?))
}

/// One result of a job
#[utoipa::path(get, path = "/v1/jobs/{job_id}/results/{id}", tag = "jobs", operation_id = "show_result",
    params(("job_id" = Uuid, Path), ("id" = Uuid, Path)),
    responses((status = 200, description = "The result", body = JobResult), ReadRefusals))]
pub(in crate::http) async fn show(
    path: web::Path<(String, String)>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let (job_id, id) = ids(&path)?;
    let found = services.store()?.find_result(id, job_id, caller.owner()).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::no_such("result"))?))
}

/// Replace what a result holds
#[utoipa::path(patch, path = "/v1/jobs/{job_id}/results/{id}", tag = "jobs", operation_id = "update_result",
    params(("job_id" = Uuid, Path), ("id" = Uuid, Path)), request_body = ResultBody,
    responses((status = 200, description = "The result as it is now", body = JobResult), WriteRefusals))]
pub(in crate::http) async fn update(
    path: web::Path<(String, String)>,
    caller: Caller,
    body: Body<ResultBody>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (job_id, id) = ids(&path)?;
    let updated = services.store()?.update_result(id, job_id, &body.0.creators).await?;
    Ok(HttpResponse::Ok().json(updated.ok_or_else(|| Problem::no_such("result"))?))
}

/// Delete a result
#[utoipa::path(delete, path = "/v1/jobs/{job_id}/results/{id}", tag = "jobs", operation_id = "delete_result",
    params(("job_id" = Uuid, Path), ("id" = Uuid, Path)),
    responses((status = 204, description = "It is gone"), WriteRefusals))]
pub(in crate::http) async fn delete(
    path: web::Path<(String, String)>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (job_id, id) = ids(&path)?;
    deleted(services.store()?.delete_result(id, job_id).await?, "result")
}

fn ids((job_id, id): &(String, String)) -> Result<(Uuid, Uuid), Problem> {
    Ok((id_of(job_id, "job")?, id_of(id, "result")?))
}
