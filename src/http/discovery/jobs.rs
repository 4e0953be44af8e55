//! `/v1/jobs`: the scraping jobs.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{deleted, id_of, unknown};
use crate::domain::discovery::JobStatus;
use crate::domain::json_text::JsonText;
use crate::http::auth::Caller;
use crate::http::input::json::{self, JsonObject};
use crate::http::input::{Body, NoQuery, Query, escaped, values};
use crate::http::listing::{Fields, Origin, OwnedListing};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{List, Page, Paging};
use crate::http::problem::Problem;
use crate::http::server::{Services, collection, single};
use crate::store::{Change, Job, JobFilter, JobOutcome, JobUpdate, NewJob};

/// Most keywords of a job, and the longest one.
const KEYWORDS: usize = 200;
const KEYWORD_CHARACTERS: usize = 200;

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config.service(collection("/jobs", list, create)).service(single("/jobs/{id}", show, update, delete));
}

/// The newest first.
pub(in crate::http) enum Jobs {}

impl List for Jobs {
    const NAME: &'static str = "jobs";
    type Row = Job;
    type Key = (DateTime<Utc>, Uuid);

    fn key(row: &Job) -> Self::Key {
        (row.created_at, row.id)
    }
}

/// What a list leaves out unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum JobColumn {
    Keywords,
    SearchParams,
    Results,
}

/// Which jobs to list. All filters hold together.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct JobQuery {
    campaign_id: Option<Uuid>,
    #[param(inline)]
    status: Option<JobStatus>,
    #[serde(default, deserialize_with = "values::text::<_, 50>")]
    #[param(min_length = 1, max_length = 50)]
    platform: Option<String>,
    /// Keywords, separated by commas, all of which the job has. Blanks around one are not part of it. A backslash makes
    /// whatever follows it a plain part of the keyword: a comma, a blank, a backslash.
    #[serde(default, deserialize_with = "values::text::<_, 2000>")]
    #[param(min_length = 1, max_length = 2000)]
    keywords: Option<String>,
    /// A key that the job's `search_params` have, or `key=value`: what its value is too, as text. In the key, an equals sign
    /// and a backslash have a backslash before them.
    #[serde(default, deserialize_with = "values::text::<_, 1000>")]
    #[param(min_length = 1, max_length = 1000)]
    search_param: Option<String>,
    /// The large columns to include.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<JobColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<JobColumn>,
}

/// Jobs, newest first
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", operation_id = "list_jobs", params(Origin, JobQuery, Paging::<Jobs>),
    responses((status = 200, description = "A page of jobs", body = Page<Job>), ReadRefusals))]
pub(in crate::http) async fn list(
    query: OwnedListing<Jobs, JobQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let OwnedListing { filter, origin, paging } = query;
    let (search_param, search_param_value) = filter.search_param.map(|text| escaped::split_once(&text, '=')).unzip();
    let filter = JobFilter {
        user_id: caller.narrow(origin.user_id)?,
        campaign_id: filter.campaign_id,
        status: filter.status,
        platform: filter.platform,
        created_from: origin.created_from,
        created_before: origin.created_before,
        keywords: filter.keywords.map(|text| escaped::split(&text, ',')),
        search_param,
        search_param_value: search_param_value.flatten(),
        after: paging.after,
        limit: paging.rows(),
        with_keywords: filter.fields.has(JobColumn::Keywords),
        with_search_params: filter.fields.has(JobColumn::SearchParams),
        with_results: filter.fields.has(JobColumn::Results),
    };
    Ok(paging.answer(services.store()?.list_jobs(&filter).await?))
}

/// A job to make. It begins as `pending`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct JobPost {
    /// The Clerk id of its owner.
    #[serde(deserialize_with = "values::required_text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255)]
    user_id: String,
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255)]
    run_id: Option<String>,
    #[serde(default, deserialize_with = "keywords")]
    #[schema(value_type = Option<Vec<Keyword>>, max_items = 200)]
    keywords: Option<Value>,
    #[serde(default, deserialize_with = "values::text::<_, 50>")]
    #[schema(min_length = 1, max_length = 50)]
    platform: Option<String>,
    #[serde(default, deserialize_with = "values::text::<_, 10>")]
    #[schema(min_length = 1, max_length = 10)]
    region: Option<String>,
    /// A campaign of the same owner.
    campaign_id: Option<Uuid>,
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255)]
    target_username: Option<String>,
    #[serde(default, deserialize_with = "json::object")]
    #[schema(value_type = Option<JsonObject>)]
    search_params: Option<JsonText>,
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255)]
    qstash_message_id: Option<String>,
    #[serde(default, deserialize_with = "values::count")]
    #[schema(minimum = 0)]
    target_results: Option<i32>,
    #[serde(default, deserialize_with = "values::instant")]
    timeout_at: Option<DateTime<Utc>>,
}

/// One keyword.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 200)]
struct Keyword(#[expect(dead_code, reason = "describes what is read as JSON")] String);

fn keywords<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let Some(keywords) = Option::<Vec<String>>::deserialize(deserializer)? else { return Ok(None) };
    let fits = |keyword: &String| values::check_text(keyword, KEYWORD_CHARACTERS).is_ok();
    if keywords.len() > KEYWORDS || !keywords.iter().all(fits) {
        let expected = format_args!("has to be up to {KEYWORDS} texts of 1 to {KEYWORD_CHARACTERS} characters without NUL");
        return Err(serde::de::Error::custom(expected));
    }
    Ok(Some(serde_json::json!(keywords)))
}

/// Make a job
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", operation_id = "create_job", request_body = JobPost,
    responses((status = 201, description = "The job", body = Job), WriteRefusals))]
pub(in crate::http) async fn create(
    caller: Caller,
    body: Body<JobPost>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let Body(new) = body;
    let new = NewJob {
        user_id: new.user_id,
        run_id: new.run_id,
        keywords: new.keywords,
        platform: new.platform,
        region: new.region,
        campaign_id: new.campaign_id,
        target_username: new.target_username,
        search_params: new.search_params,
        qstash_message_id: new.qstash_message_id,
        target_results: new.target_results,
        timeout_at: new.timeout_at,
    };
    match services.store()?.create_job(&new, services.clock.now()).await? {
        JobOutcome::Done(job) => Ok(HttpResponse::Created().json(job)),
        other => Err(refused(&other)),
    }
}

/// What to include of one job.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct OneJobQuery {
    /// `results`: the first hundred. The others are always there.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<JobColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<JobColumn>,
}

/// One job
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "show_job", params(("id" = Uuid, Path), OneJobQuery),
    responses((status = 200, description = "The job", body = Job), ReadRefusals))]
pub(in crate::http) async fn show(
    id: web::Path<String>,
    query: Query<OneJobQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let with_results = query.0.fields.has(JobColumn::Results);
    let found = services.store()?.find_job(id_of(&id, "job")?, caller.owner(), with_results).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::no_such("job"))?))
}

/// What becomes of a job. A field that is absent is kept, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct JobPatch {
    #[serde(default, deserialize_with = "values::text_change::<_, 255>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    run_id: Change<String>,
    /// `pending` to `processing`, and that to `completed`; both to `error` and `timeout`, which are final as `completed` is.
    #[serde(default, deserialize_with = "values::kept")]
    #[schema(value_type = JobStatus, required = false)]
    status: Option<JobStatus>,
    #[serde(default, deserialize_with = "values::text_change::<_, 255>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    qstash_message_id: Change<String>,
    #[serde(default, deserialize_with = "values::count_kept")]
    #[schema(minimum = 0, nullable = false)]
    processed_runs: Option<i32>,
    #[serde(default, deserialize_with = "values::count_kept")]
    #[schema(minimum = 0, nullable = false)]
    processed_results: Option<i32>,
    #[serde(default, deserialize_with = "values::count_change")]
    #[schema(value_type = Option<i32>, minimum = 0)]
    target_results: Change<i32>,
    #[serde(default, deserialize_with = "values::count_kept")]
    #[schema(minimum = 0, nullable = false)]
    cursor: Option<i32>,
    /// In percent; 100 when the job completes, unless it is given.
    #[serde(default, deserialize_with = "progress")]
    #[schema(minimum = 0, maximum = 100, nullable = false)]
    progress: Option<f64>,
    /// Now, when the job begins, unless it is given.
    #[serde(default, deserialize_with = "values::instant_change")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    started_at: Change<DateTime<Utc>>,
    /// Now, when the job ends, unless it is given.
    #[serde(default, deserialize_with = "values::instant_change")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    completed_at: Change<DateTime<Utc>>,
    #[serde(default, deserialize_with = "values::instant_change")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    timeout_at: Change<DateTime<Utc>>,
    #[serde(default, deserialize_with = "values::text_change::<_, 10000>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 10000)]
    error: Change<String>,
}

fn progress<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let progress = f64::deserialize(deserializer)?;
    let is_percentage = (0.0..=100.0).contains(&progress);
    if is_percentage { Ok(Some(progress)) } else { Err(serde::de::Error::custom("has to be a number from 0 to 100")) }
}

/// Change a job
#[utoipa::path(patch, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "update_job", params(("id" = Uuid, Path)),
    request_body = JobPatch, responses((status = 200, description = "The job as it is now", body = Job), WriteRefusals))]
pub(in crate::http) async fn update(
    id: web::Path<String>,
    caller: Caller,
    body: Body<JobPatch>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (id, Body(patch)) = (id_of(&id, "job")?, body);
    let update = JobUpdate {
        run_id: patch.run_id,
        status: patch.status,
        qstash_message_id: patch.qstash_message_id,
        processed_runs: patch.processed_runs,
        processed_results: patch.processed_results,
        target_results: patch.target_results,
        cursor: patch.cursor,
        progress: patch.progress,
        started_at: patch.started_at,
        completed_at: patch.completed_at,
        timeout_at: patch.timeout_at,
        error: patch.error,
    };
    match services.store()?.update_job(id, &update, services.clock.now()).await? {
        JobOutcome::Done(job) => Ok(HttpResponse::Ok().json(job)),
        other => Err(refused(&other)),
    }
}

/// Delete a job with its results
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "delete_job", params(("id" = Uuid, Path)),
    responses((status = 204, description = "It is gone"), WriteRefusals))]
pub(in crate::http) async fn delete(
    id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    deleted(services.store()?.delete_job(id_of(&id, "job")?).await?, "job")
}

fn refused(outcome: &JobOutcome) -> Problem {
    match outcome {
        JobOutcome::UnknownUser => unknown("user_id", "user"),
        JobOutcome::UnknownCampaign => unknown("campaign_id", "campaign of that user"),
        JobOutcome::WrongStatus(status) => {
            Problem::conflict(format!("`status` cannot be that: the job's is {status}")).at("status")
        }
        JobOutcome::Done(_) | JobOutcome::NotFound => Problem::no_such("job"),
    }
}
