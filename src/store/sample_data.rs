//! A sample data set, in a database that holds nothing else: what the queries of the API are measured on. Every table is filled
//! in proportion to the users, ten rows a user in those that grow fastest. No row describes anybody.

mod sql;

use chrono::{DateTime, Days, Utc};
use serde::{Deserialize, Serialize};

use crate::store::error::{ErrorKind, StoreError};
use crate::store::pool::{Store, Tx};
use crate::store::sync_cursors::SAVE_CURSOR;

pub(crate) use sql::ALL;

/// How far the making has come is kept under this name, and marks the database.
const CURSOR: &str = "sample-data";

/// Raised with every change of what is made, so that no two runs are compared whose rows differ.
const VERSION: u32 = 1;

/// Rows of one transaction.
const BATCH: i64 = 20_000;

/// Such a batch takes as long as it takes, and what a crash loses of it is made again.
const BEGIN_BATCH: &str = "begin; set local statement_timeout = 0; set local synchronous_commit = off";

/// A table that is filled, how many rows of it a user has, and how.
struct Step {
    table: &'static str,
    rows_per_user: i64,
    sql: &'static str,
}

const STEPS: &[Step] = &[
    Step { table: "users", rows_per_user: 1, sql: sql::MAKE_SAMPLE_USERS },
    Step { table: "owners", rows_per_user: 1, sql: sql::MAKE_SAMPLE_OWNERS },
    Step { table: "provider_objects", rows_per_user: 1, sql: sql::MAKE_SAMPLE_OBJECTS },
    Step { table: "usage_periods", rows_per_user: 1, sql: sql::MAKE_SAMPLE_PERIODS },
    Step { table: "campaigns", rows_per_user: 10, sql: sql::MAKE_SAMPLE_CAMPAIGNS },
    Step { table: "scraping_jobs", rows_per_user: 10, sql: sql::MAKE_SAMPLE_JOBS },
    Step { table: "scraping_results", rows_per_user: 10, sql: sql::MAKE_SAMPLE_RESULTS },
    Step { table: "creator_lists", rows_per_user: 2, sql: sql::MAKE_SAMPLE_LISTS },
    Step { table: "list_items", rows_per_user: 10, sql: sql::MAKE_SAMPLE_ITEMS },
    Step { table: "webhook_events", rows_per_user: 10, sql: sql::MAKE_SAMPLE_EVENTS },
    Step { table: "consume_keys", rows_per_user: 1, sql: sql::MAKE_SAMPLE_CONSUME_KEYS },
];

/// What a set is made of. The same set is the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleSet {
    pub users: u32,
    /// The time that it lives at: its newest rows are of then, and usage periods are in progress.
    pub at: DateTime<Utc>,
}

/// How far a set has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleState {
    version: u32,
    pub set: SampleSet,
    step: usize,
    /// Rows of that step that are there.
    rows: i64,
    /// Whether statistics have been gathered after all rows were made.
    pub is_complete: bool,
}

/// What was just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleProgress {
    /// The table that comes next; of the last step `None`: everything is vacuumed then.
    pub table: Option<&'static str>,
    /// Of all tables.
    pub rows: u64,
    pub total: u64,
}

impl SampleState {
    /// Whether it is that set, as this version of billsync makes it.
    pub fn is_of(&self, set: &SampleSet) -> bool {
        self.version == VERSION && self.set == *set
    }

    fn progress(&self) -> SampleProgress {
        let users = i64::from(self.set.users);
        let done: i64 = STEPS.iter().take(self.step).map(|step| step.rows_per_user * users).sum();
        let total: i64 = STEPS.iter().map(|step| step.rows_per_user * users).sum();
        SampleProgress {
            table: STEPS.get(self.step).map(|step| step.table),
            rows: u64::try_from(done + self.rows).unwrap_or_default(),
            total: u64::try_from(total).unwrap_or_default(),
        }
    }
}

impl Store {
    /// The sample data set of this database; `None` when it has none.
    pub async fn find_sample_data(&self) -> Result<Option<SampleState>, StoreError> {
        self.find_cursor(CURSOR).await
    }

    /// Makes a sample data set, or the rest of it when that was interrupted; `observe` is told after each batch. Each batch is
    /// a transaction of its own, so that dropping this at any time leaves a set that can be gone on with. A database with rows
    /// of its own, or with another set, is refused.
    pub async fn make_sample_data(&self, set: SampleSet, observe: impl Fn(SampleProgress)) -> Result<(), StoreError> {
        let mut state = match self.find_sample_data().await? {
            Some(state) if state.is_of(&set) => state,
            Some(_other) => return Err(refused("this database holds another set of sample data")),
            None => self.begin_sample_data(set).await?,
        };
        observe(state.progress());
        while let Some(step) = STEPS.get(state.step) {
            state = self.make_batch(step, state).await?;
            observe(state.progress());
        }
        if !state.is_complete {
            self.vacuum().await?;
            state.is_complete = true;
            self.save_cursor(CURSOR, &state).await?;
        }
        Ok(())
    }

    async fn begin_sample_data(&self, set: SampleSet) -> Result<SampleState, StoreError> {
        // Events reach ninety days back; a partition more does no harm.
        self.ensure_payload_partitions(set.at.checked_sub_days(Days::new(92)).unwrap_or(set.at)).await?;
        self.within(async |tx| {
            let (has_rows,): (bool,) = tx.query_as(sql::HAS_OWN_ROWS).fetch_one(tx.connection()?).await?;
            if has_rows {
                return Err(refused("this database has users or events of its own, and sample data would mix with them"));
            }
            let state = SampleState { version: VERSION, set, step: 0, rows: 0, is_complete: false };
            tx.query(sql::MAKE_SAMPLE_PLANS).execute(tx.connection()?).await?;
            save(tx, &state).await?;
            Ok(state)
        })
        .await
    }

    async fn make_batch(&self, step: &Step, mut state: SampleState) -> Result<SampleState, StoreError> {
        let rows = step.rows_per_user * i64::from(state.set.users);
        let last = (state.rows + BATCH).min(rows);
        let mut tx = self.begin_with(BEGIN_BATCH).await?;
        let query = tx.query(step.sql).bind(state.rows + 1).bind(last).bind(i64::from(state.set.users)).bind(state.set.at);
        query.execute(tx.connection()?).await?;
        (state.step, state.rows) = if last == rows { (state.step + 1, 0) } else { (state.step, last) };
        save(&mut tx, &state).await?;
        tx.commit().await?;
        Ok(state)
    }

    /// Marks pages as visible to all, which a table has that has been in use for a while, and gathers statistics.
    async fn vacuum(&self) -> Result<(), StoreError> {
        use sqlx::Connection;
        let mut connection = self.connect_directly().await?;
        sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0").execute(&mut connection).await?;
        sqlx::raw_sql("vacuum (analyze)").execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

async fn save(tx: &mut Tx, state: &SampleState) -> Result<(), StoreError> {
    let position = serde_json::to_value(state).unwrap_or_default().to_string();
    tx.query(SAVE_CURSOR).bind(CURSOR).bind(position).execute(tx.connection()?).await?;
    Ok(())
}

fn refused(message: &str) -> StoreError {
    StoreError::new(ErrorKind::Refused, message)
}
