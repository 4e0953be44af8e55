//! `public.scraping_results`: what a job has found, in the order in which it came.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::json_text::JsonText;
use crate::store::error::StoreError;
use crate::store::instants::{At, Place};
use crate::store::pool::{RowQuery, Store};
use crate::store::raw_json::RawJson;

macro_rules! columns {
    ($creators:literal) => {
        concat!(
            "r.id, r.job_id, case when ",
            $creators,
            " then r.creators end as creators, \
            case jsonb_typeof(r.creators) when 'array' then jsonb_array_length(r.creators) else 0 end as creators_count, \
            r.created_at, r.updated_at "
        )
    };
}

statements! {
    LIST_RESULTS = concat!("select ", columns!("$5"), " from public.scraping_results r \
        where r.job_id = $1 and ($2::timestamptz is null or (r.created_at, r.id) > ($2, $3)) \
        order by r.created_at, r.id limit $4");

    FIND_RESULT = concat!("select ", columns!("true"), " from public.scraping_results r \
        join public.scraping_jobs j on j.id = r.job_id \
        where r.id = $1 and r.job_id = $2 and ($3::text is null or j.user_id = $3)");

    JOB_IS_OF = "select 1 from public.scraping_jobs where id = $1 and ($2::text is null or user_id = $2)";

    INSERT_RESULT = concat!("\
        insert into public.scraping_results as r (job_id, creators, created_at) \
        select j.id, $2::text::jsonb, $3 from public.scraping_jobs j where j.id = $1 for key share returning ", columns!("true"));

    UPDATE_RESULT = concat!("\
        update public.scraping_results r set creators = $3::text::jsonb where r.id = $1 and r.job_id = $2 returning ", columns!("true"));

    DELETE_RESULT = "delete from public.scraping_results where id = $1 and job_id = $2";
}

/// A row of `scraping_results`.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct JobResult {
    pub id: Uuid,
    pub job_id: Uuid,
    /// Lists leave them out unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Value>, required = false)]
    pub creators: Option<RawJson>,
    pub creators_count: i32,
    #[sqlx(try_from = "At")]
    pub created_at: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    pub updated_at: DateTime<Utc>,
}

impl Store {
    /// Whether there is such a job, of that owner if one is given.
    pub async fn has_job(&self, id: Uuid, owner: Option<&str>) -> Result<bool, StoreError> {
        let bind = |query: RowQuery<(i32,)>| query.bind(id).bind(owner.map(str::to_owned));
        Ok(!self.read(JOB_IS_OF, bind).await?.is_empty())
    }

    /// The results of a job in the order in which they came; `after` is the (created_at, id) of the last one seen.
    pub async fn list_results(
        &self,
        job_id: Uuid,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
        with_creators: bool,
    ) -> Result<Vec<JobResult>, StoreError> {
        let (after_at, after_id) = after.unzip();
        let bind = |query: RowQuery<JobResult>| {
            query.bind(job_id).bind(after_at.map(Place::Behind)).bind(after_id).bind(limit).bind(with_creators)
        };
        self.read_planned(LIST_RESULTS, bind).await
    }

    /// A result of that job, if the job is that owner's.
    pub async fn find_result(&self, id: Uuid, job_id: Uuid, owner: Option<&str>) -> Result<Option<JobResult>, StoreError> {
        let bind = |query: RowQuery<JobResult>| query.bind(id).bind(job_id).bind(owner.map(str::to_owned));
        Ok(self.read(FIND_RESULT, bind).await?.pop())
    }

    /// Adds a result; `None` when there is no such job.
    pub async fn create_result(
        &self,
        job_id: Uuid,
        creators: &JsonText,
        now: DateTime<Utc>,
    ) -> Result<Option<JobResult>, StoreError> {
        self.within(async |tx| {
            let query = tx.query_as(INSERT_RESULT).bind(job_id).bind(creators.as_str().to_owned()).bind(now);
            Ok(query.fetch_optional(tx.connection()?).await?)
        })
        .await
    }

    /// Replaces what a result holds; `None` when the job has none such.
    pub async fn update_result(&self, id: Uuid, job_id: Uuid, creators: &JsonText) -> Result<Option<JobResult>, StoreError> {
        self.within(async |tx| {
            let query = tx.query_as(UPDATE_RESULT).bind(id).bind(job_id).bind(creators.as_str().to_owned());
            Ok(query.fetch_optional(tx.connection()?).await?)
        })
        .await
    }

    /// Deletes a result. False when the job has none such.
    pub async fn delete_result(&self, id: Uuid, job_id: Uuid) -> Result<bool, StoreError> {
        self.within(async |tx| {
            let query = tx.query(DELETE_RESULT).bind(id).bind(job_id);
            Ok(query.execute(tx.connection()?).await?.rows_affected() > 0)
        })
        .await
    }
}
