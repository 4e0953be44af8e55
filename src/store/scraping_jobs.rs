//! `public.scraping_jobs`: lists with filters on columns and on JSON, with results in the same statement when asked for, and
//! changes whose status may only go forward.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::discovery::JobStatus;
use crate::domain::json_text::JsonText;
use crate::store::error::StoreError;
use crate::store::instants::{At, MaybeAt, Place};
use crate::store::pool::{RowQuery, Store, Tx};
use crate::store::profile_update::Change;
use crate::store::raw_json::RawJson;

/// The columns; the large ones only where the three parameters say so. Results: the first hundred of a job.
macro_rules! columns {
    ($keywords:literal, $search_params:literal, $results:literal) => {
        concat!("j.id, j.user_id, j.run_id, j.status, case when ", $keywords, " then j.keywords end as keywords, j.platform, \
            j.region, j.campaign_id, j.target_username, case when ", $search_params, " then j.search_params end as search_params, \
            j.qstash_message_id, j.processed_runs, j.processed_results, j.target_results, j.cursor, \
            j.progress::float8 as progress, j.started_at, j.completed_at, j.timeout_at, j.error, j.created_at, j.updated_at, \
            case when ", $results, " then (select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'creators', r.creators, \
                'created_at', r.created_at) order by r.created_at, r.id), '[]') \
                from (select * from public.scraping_results s where s.job_id = j.id order by s.created_at, s.id limit 100) r) \
            end as results ")
    };
}

statements! {
    /// Newest first. Every filter may be absent; those on JSON go through the GIN indexes. A value is looked for as a text
    /// ($16) and, where it reads as JSON, as that ($17). What contains either is then compared as text, in a way that the
    /// planner takes for little further narrowing: it would misjudge how many rows are left.
    LIST_JOBS = concat!("select ", columns!("$13", "$14", "$15"), " from public.scraping_jobs j \
        where ($1::text is null or j.user_id = $1) \
          and ($2::uuid is null or j.campaign_id = $2) \
          and ($3::text is null or j.status = $3) \
          and ($4::text is null or j.platform = $4) \
          and ($5::timestamptz is null or j.created_at >= $5) \
          and ($6::timestamptz is null or j.created_at < $6) \
          and ($7::jsonb is null or j.keywords @> $7) \
          and ($8::text is null or $9::text is not null or j.search_params ? $8) \
          and ($9::text is null or (j.search_params @> $16::text::jsonb or j.search_params @> $17::text::jsonb) \
            and coalesce(j.search_params ->> $8 = $9, false)) \
          and ($10::timestamptz is null or (j.created_at, j.id) < ($10, $11)) \
        order by j.created_at desc, j.id desc limit $12");

    FIND_JOB = concat!("select ", columns!("true", "true", "$3::bool"), " from public.scraping_jobs j \
        where j.id = $1 and ($2::text is null or j.user_id = $2)");

    LOCK_JOB = "select status, started_at, completed_at from public.scraping_jobs where id = $1 for update";

    CAMPAIGN_IS_OF = "select 1 from public.campaigns where id = $1 and user_id = $2 for key share";

    JOB_OWNER_EXISTS = "select 1 from public.users where user_id = $1 for key share";

    INSERT_JOB = concat!("\
        insert into public.scraping_jobs as j (user_id, run_id, keywords, platform, region, campaign_id, target_username, \
            search_params, qstash_message_id, target_results, timeout_at, created_at) \
        values ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12) returning ", columns!("true", "true", "false"));

    UPDATE_JOB = concat!("\
        update public.scraping_jobs j set run_id = case when $2 then $3 else j.run_id end, status = coalesce($4, j.status), \
            qstash_message_id = case when $5 then $6 else j.qstash_message_id end, \
            processed_runs = coalesce($7, j.processed_runs), processed_results = coalesce($8, j.processed_results), \
            target_results = case when $9 then $10 else j.target_results end, cursor = coalesce($11, j.cursor), \
            progress = coalesce($12::float8::numeric, j.progress), \
            started_at = case when $13 then $14 else j.started_at end, \
            completed_at = case when $15 then $16 else j.completed_at end, \
            timeout_at = case when $17 then $18 else j.timeout_at end, error = case when $19 then $20 else j.error end \
        where j.id = $1 returning ", columns!("true", "true", "false"));

    DELETE_JOB = "delete from public.scraping_jobs where id = $1";
}

/// A row of `scraping_jobs`.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct Job {
    pub id: Uuid,
    /// The Clerk id of its owner.
    pub user_id: String,
    pub run_id: Option<String>,
    /// `pending`, `processing`, `completed`, `error` or `timeout`.
    pub status: String,
    /// Texts; lists leave them out unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Value>, required = false)]
    pub keywords: Option<RawJson>,
    pub platform: Option<String>,
    pub region: Option<String>,
    pub campaign_id: Option<Uuid>,
    pub target_username: Option<String>,
    /// Lists leave them out unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub search_params: Option<RawJson>,
    pub qstash_message_id: Option<String>,
    pub processed_runs: i32,
    pub processed_results: i32,
    pub target_results: Option<i32>,
    pub cursor: i32,
    /// In percent.
    pub progress: f64,
    #[sqlx(try_from = "MaybeAt")]
    pub started_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub completed_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub timeout_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
    #[sqlx(try_from = "At")]
    pub created_at: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    pub updated_at: DateTime<Utc>,
    /// The first hundred; only when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Value>, required = false)]
    pub results: Option<RawJson>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    pub user_id: Option<String>,
    pub campaign_id: Option<Uuid>,
    pub status: Option<JobStatus>,
    pub platform: Option<String>,
    pub created_from: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    /// All of them are among the job's.
    pub keywords: Option<Vec<String>>,
    /// A key that the search parameters have.
    pub search_param: Option<String>,
    /// What that key's value is, as text.
    pub search_param_value: Option<String>,
    /// (created_at, id) of the last one seen.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    pub limit: i64,
    pub with_keywords: bool,
    pub with_search_params: bool,
    pub with_results: bool,
}

/// A job to make; it begins as `pending`.
#[derive(Clone, Debug, Default)]
pub struct NewJob {
    pub user_id: String,
    pub run_id: Option<String>,
    pub keywords: Option<Value>,
    pub platform: Option<String>,
    pub region: Option<String>,
    /// Of the same owner.
    pub campaign_id: Option<Uuid>,
    pub target_username: Option<String>,
    pub search_params: Option<JsonText>,
    pub qstash_message_id: Option<String>,
    pub target_results: Option<i32>,
    pub timeout_at: Option<DateTime<Utc>>,
}

/// What becomes of a job's columns.
#[derive(Clone, Debug, Default)]
pub struct JobUpdate {
    pub run_id: Change<String>,
    pub status: Option<JobStatus>,
    pub qstash_message_id: Change<String>,
    pub processed_runs: Option<i32>,
    pub processed_results: Option<i32>,
    pub target_results: Change<i32>,
    pub cursor: Option<i32>,
    pub progress: Option<f64>,
    pub started_at: Change<DateTime<Utc>>,
    pub completed_at: Change<DateTime<Utc>>,
    pub timeout_at: Change<DateTime<Utc>>,
    pub error: Change<String>,
}

/// What became of making or changing a job.
#[derive(Clone, Debug)]
pub enum JobOutcome {
    Done(Box<Job>),
    NotFound,
    UnknownUser,
    /// There is none of that id, or it is somebody else's.
    UnknownCampaign,
    /// The job has this status, which the asked for one cannot follow.
    WrongStatus(String),
}

#[derive(FromRow)]
struct LockedJob {
    status: String,
    #[sqlx(try_from = "MaybeAt")]
    started_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    completed_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Jobs that pass the filter, newest first, in one statement with whatever of them is asked for.
    pub async fn list_jobs(&self, filter: &JobFilter) -> Result<Vec<Job>, StoreError> {
        let (after_at, after_id) = filter.after.unzip();
        let containing = Containing::of(filter);
        let bind = |query: RowQuery<Job>| {
            query
                .bind(filter.user_id.clone())
                .bind(filter.campaign_id)
                .bind(filter.status.map(JobStatus::as_str))
                .bind(filter.platform.clone())
                .bind(filter.created_from)
                .bind(filter.created_before)
                .bind(filter.keywords.as_ref().map(|keywords| json!(keywords)))
                .bind(filter.search_param.clone())
                .bind(filter.search_param_value.clone())
                .bind(after_at.map(Place::Before))
                .bind(after_id)
                .bind(filter.limit)
                .bind(filter.with_keywords)
                .bind(filter.with_search_params)
                .bind(filter.with_results)
                .bind(containing.as_text.clone())
                .bind(containing.as_json.clone())
        };
        self.read_planned(LIST_JOBS, bind).await
    }

    /// A job, of that owner if one is given.
    pub async fn find_job(&self, id: Uuid, owner: Option<&str>, with_results: bool) -> Result<Option<Job>, StoreError> {
        let bind = |query: RowQuery<Job>| query.bind(id).bind(owner.map(str::to_owned)).bind(with_results);
        Ok(self.read(FIND_JOB, bind).await?.pop())
    }

    /// Makes a job.
    pub async fn create_job(&self, new: &NewJob, now: DateTime<Utc>) -> Result<JobOutcome, StoreError> {
        self.within(async |tx| {
            let owner = tx.query_as::<(i32,)>(JOB_OWNER_EXISTS).bind(new.user_id.clone());
            if owner.fetch_optional(tx.connection()?).await?.is_none() {
                return Ok(JobOutcome::UnknownUser);
            }
            if let Some(campaign_id) = new.campaign_id {
                let campaign = tx.query_as::<(i32,)>(CAMPAIGN_IS_OF).bind(campaign_id).bind(new.user_id.clone());
                if campaign.fetch_optional(tx.connection()?).await?.is_none() {
                    return Ok(JobOutcome::UnknownCampaign);
                }
            }
            let query = tx
                .query_as::<Job>(INSERT_JOB)
                .bind(new.user_id.clone())
                .bind(new.run_id.clone())
                .bind(new.keywords.clone())
                .bind(new.platform.clone())
                .bind(new.region.clone())
                .bind(new.campaign_id)
                .bind(new.target_username.clone())
                .bind(new.search_params.as_ref().map(|json| json.as_str().to_owned()))
                .bind(new.qstash_message_id.clone())
                .bind(new.target_results)
                .bind(new.timeout_at)
                .bind(now);
            Ok(JobOutcome::Done(Box::new(query.fetch_one(tx.connection()?).await?)))
        })
        .await
    }

    /// Changes a job. What begins or ends now is stamped so, unless the update says when.
    pub async fn update_job(&self, id: Uuid, update: &JobUpdate, now: DateTime<Utc>) -> Result<JobOutcome, StoreError> {
        self.within(async |tx| {
            let locked = tx.query_as::<LockedJob>(LOCK_JOB).bind(id).fetch_optional(tx.connection()?).await?;
            let Some(job) = locked else { return Ok(JobOutcome::NotFound) };
            let mut update = update.clone();
            if let Some(next) = update.status {
                if JobStatus::parse(&job.status).is_some_and(|status| !status.may_become(next)) {
                    return Ok(JobOutcome::WrongStatus(job.status));
                }
                if next == JobStatus::Processing && job.started_at.is_none() {
                    update.started_at = update.started_at.or(Some(Some(now)));
                }
                if next.is_final() && job.completed_at.is_none() {
                    update.completed_at = update.completed_at.or(Some(Some(now)));
                }
                if next == JobStatus::Completed {
                    update.progress = update.progress.or(Some(100.0));
                }
            }
            write(tx, id, &update).await.map(|job| JobOutcome::Done(Box::new(job)))
        })
        .await
    }

    /// Deletes a job with its results. False when there was none.
    pub async fn delete_job(&self, id: Uuid) -> Result<bool, StoreError> {
        self.within(async |tx| Ok(tx.query(DELETE_JOB).bind(id).execute(tx.connection()?).await?.rows_affected() > 0)).await
    }
}

/// The objects of one search parameter that a job's have to contain, the one or the other.
#[derive(Default)]
struct Containing {
    as_text: Option<String>,
    /// Where the value reads as JSON.
    as_json: Option<String>,
}

impl Containing {
    fn of(filter: &JobFilter) -> Containing {
        let (Some(key), Some(value)) = (&filter.search_param, &filter.search_param_value) else { return Containing::default() };
        let json = JsonText::storable(value).ok();
        Containing {
            as_text: Some(json!({ key: value }).to_string()),
            as_json: json.map(|json| format!("{{{}:{}}}", json!(key), json.as_str())),
        }
    }
}

async fn write(tx: &mut Tx, id: Uuid, update: &JobUpdate) -> Result<Job, StoreError> {
    let query = tx
        .query_as::<Job>(UPDATE_JOB)
        .bind(id)
        .bind(update.run_id.is_some())
        .bind(update.run_id.clone().flatten())
        .bind(update.status.map(JobStatus::as_str))
        .bind(update.qstash_message_id.is_some())
        .bind(update.qstash_message_id.clone().flatten())
        .bind(update.processed_runs)
        .bind(update.processed_results)
        .bind(update.target_results.is_some())
        .bind(update.target_results.flatten())
        .bind(update.cursor)
        .bind(update.progress)
        .bind(update.started_at.is_some())
        .bind(update.started_at.flatten())
        .bind(update.completed_at.is_some())
        .bind(update.completed_at.flatten())
        .bind(update.timeout_at.is_some())
        .bind(update.timeout_at.flatten())
        .bind(update.error.is_some())
        .bind(update.error.clone().flatten());
    Ok(query.fetch_one(tx.connection()?).await?)
}
