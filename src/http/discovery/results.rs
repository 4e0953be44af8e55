//! `/v1/jobs/{job_id}/results`: what a job has found.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{deleted, id_of};
use crate::domain::json_text::JsonText;
use crate::http::auth::Caller;
use crate::http::input::json::{self, AnyJson};
use crate::http::input::{Body, NoQuery};
use crate::http::listing::{Fields, Listing};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{List, Page, Paging};
use crate::http::problem::Problem;
use crate::http::server::{Services, collection, single};
use crate::store::JobResult;

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config.service(collection("/jobs/{job_id}/results", list, create)).service(single(
        "/jobs/{job_id}/results/{id}",
        show,
        update,
        delete,
    ));
}

/// In the order in which they came.
pub(in crate::http) enum Results {}

impl List for Results {
    const NAME: &'static str = "results";
    type Row = JobResult;
    type Key = (DateTime<Utc>, Uuid);

    fn key(row: &JobResult) -> Self::Key {
        (row.created_at, row.id)
    }
}

/// What a list leaves out unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ResultColumn {
    Creators,
}

/// What of a job's results to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ResultQuery {
    /// `creators`: what was found.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<ResultColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<ResultColumn>,
}

/// The results of a job, in the order in which they came
#[utoipa::path(get, path = "/v1/jobs/{job_id}/results", tag = "jobs", operation_id = "list_results",
    params(("job_id" = Uuid, Path), ResultQuery, Paging::<Results>),
    responses((status = 200, description = "A page of results", body = Page<JobResult>), ReadRefusals))]
pub(in crate::http) async fn list(
    job_id: web::Path<String>,
    query: Listing<Results, ResultQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let Listing { filter, paging } = query;
    let (store, job_id) = (services.store()?, id_of(&job_id, "job")?);
    if !store.has_job(job_id, caller.owner()).await? {
        return Err(Problem::no_such("job"));
    }
    let with_creators = filter.fields.has(ResultColumn::Creators);
    Ok(paging.answer(store.list_results(job_id, paging.after, paging.rows(), with_creators).await?))
}

/// What a job has found.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ResultBody {
    #[serde(deserialize_with = "json::array")]
    #[schema(value_type = Vec<AnyJson>)]
    creators: JsonText,
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
    _query: NoQuery,
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
    _query: NoQuery,
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
