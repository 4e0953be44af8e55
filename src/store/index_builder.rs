//! Making indexes while the service runs: concurrently, on a connection of its own, one maker at a time. What an interrupted
//! run leaves behind is found and removed by the next one.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, FromRow};

use crate::store::error::{ErrorKind, StoreError};
use crate::store::expected_schema::{Constraint, ExpectedIndex, TableName, quote};
use crate::store::index_state::{Fault, FaultyIndex};
use crate::store::pool::Store;

/// `bsix`: one maker of indexes at a time in a database.
const BUILDER_LOCK: i64 = 0x6273_6978;

statements! {
    TRY_LOCK_BUILDER = "select pg_catalog.pg_try_advisory_lock($1), pg_catalog.pg_backend_pid()";

    /// How far the index is that this process of the server is making.
    FIND_INDEX_PROGRESS = "\
        select phase::text as phase, lockers_total, lockers_done, blocks_total, blocks_done, tuples_total, tuples_done \
        from pg_catalog.pg_stat_progress_create_index where pid = $1";

    CANCEL_STATEMENT = "select pg_catalog.pg_cancel_backend($1)";

    LIST_PARTITIONS_WITHOUT_KEY = "\
        select n.nspname::text, c.relname::text from pg_catalog.pg_inherits i \
        join pg_catalog.pg_class c on c.oid = i.inhrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where i.inhparent = pg_catalog.to_regclass($1) \
          and not exists (select from pg_catalog.pg_constraint k where k.conrelid = c.oid and k.contype = 'p') order by 2";
}

/// How far an index is. Zeros are not known, or not of that phase.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct IndexProgress {
    pub phase: String,
    /// Transactions that have to end first.
    pub lockers_total: i64,
    pub lockers_done: i64,
    pub blocks_total: i64,
    pub blocks_done: i64,
    pub tuples_total: i64,
    pub tuples_done: i64,
}

/// The connection that makes indexes.
#[derive(Debug)]
pub struct IndexBuilder {
    connection: PgConnection,
    backend: i32,
}

impl Store {
    /// Connects; `None` when somebody else is making indexes.
    pub async fn open_index_builder(&self) -> Result<Option<IndexBuilder>, StoreError> {
        let mut connection = self.connect_directly().await?;
        // An index takes as long as it takes; so do the transactions that it waits for.
        sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0").execute(&mut connection).await?;
        // So that a maker that was killed does not go on for hours. Not every platform can do it.
        let _ = sqlx::raw_sql("set client_connection_check_interval = '2s'").execute(&mut connection).await;
        let (is_ours, backend): (bool, i32) =
            sqlx::query_as(TRY_LOCK_BUILDER).bind(BUILDER_LOCK).fetch_one(&mut connection).await?;
        if is_ours {
            return Ok(Some(IndexBuilder { connection, backend }));
        }
        let _ = connection.close().await;
        Ok(None)
    }

    /// How far the builder with that [`IndexBuilder::backend`] is; `None` while it makes no index.
    pub async fn find_index_progress(&self, backend: i32) -> Result<Option<IndexProgress>, StoreError> {
        Ok(self.read_planned(FIND_INDEX_PROGRESS, |query| query.bind(backend)).await?.pop())
    }

    /// Has the server give up what that builder is doing, whose statement then fails.
    pub async fn cancel_index_builder(&self, backend: i32) -> Result<(), StoreError> {
        let _was_there: Vec<(bool,)> = self.read_planned(CANCEL_STATEMENT, |query| query.bind(backend)).await?;
        Ok(())
    }
}

impl IndexBuilder {
    /// What the server calls the connection.
    pub fn backend(&self) -> i32 {
        self.backend
    }

    /// Mends one index. What an error leaves of it is invalid, and mended by the next run.
    pub async fn mend(&mut self, index: &FaultyIndex) -> Result<(), StoreError> {
        let expected = &index.expected;
        match index.fault {
            Fault::Different => {
                return Err(unable(format!("an index of another form is called {}: rename or drop it first", expected.name)));
            }
            Fault::InWork => return Err(unable(format!("somebody is making {} at the moment", expected.name))),
            Fault::Invalid | Fault::Missing | Fault::ConstraintMissing => {}
        }
        if index.is_partitioned {
            return self.mend_partitioned(expected).await;
        }
        let statements = expected.creation();
        let (make, add) = statements.split_first().ok_or_else(|| unable("there is nothing to make".into()))?;
        if index.fault == Fault::Invalid {
            self.drop_index(&expected.table.schema, &expected.name).await?;
        }
        if index.fault != Fault::ConstraintMissing {
            self.make(&expected.table.schema, &expected.name, make).await?;
        }
        for statement in add {
            self.run_briefly(statement).await?;
        }
        Ok(())
    }

    /// Drops an index without keeping anybody from writing.
    pub async fn drop_index(&mut self, schema: &str, name: &str) -> Result<(), StoreError> {
        self.run(&format!("drop index concurrently if exists {}.{}", quote(schema), quote(name))).await
    }

    /// Gives the connection back, and with it the right to make indexes.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }

    /// Each partition is given its key first, so that the table itself is locked for a moment only.
    async fn mend_partitioned(&mut self, expected: &ExpectedIndex) -> Result<(), StoreError> {
        let (name, table, columns) = (quote(&expected.name), expected.table.quoted(), expected.columns());
        if expected.constraint != Some(Constraint::PrimaryKey) {
            return Err(unable(format!("{name} of the partitioned table {table} has to be made by hand")));
        }
        let partitions: Vec<(String, String)> =
            sqlx::query_as(LIST_PARTITIONS_WITHOUT_KEY).bind(table.clone()).fetch_all(&mut self.connection).await?;
        for (schema, partition) in partitions {
            let key = format!("{partition}_pkey");
            self.drop_index(&schema, &key).await?;
            let partition = TableName { schema, name: partition };
            let (quoted_key, quoted) = (quote(&key), partition.quoted());
            let make = format!("create unique index concurrently {quoted_key} on {quoted} ({columns})");
            self.make(&partition.schema, &key, &make).await?;
            let add = format!("alter table {quoted} add constraint {quoted_key} primary key using index {quoted_key}");
            self.run_briefly(&add).await?;
        }
        self.run_briefly(&format!("alter table {table} add constraint {name} primary key ({columns})")).await
    }

    /// An index that could not be made (a value that is there twice, a signal) stays behind as invalid. It is dropped unless
    /// that, too, has to wait for others: then the next run does it.
    async fn make(&mut self, schema: &str, name: &str, statement: &str) -> Result<(), StoreError> {
        let made = self.run(statement).await;
        if made.is_err() {
            let dropping = format!("drop index concurrently if exists {}.{}", quote(schema), quote(name));
            let _left_for_the_next_run = self.run_briefly(&dropping).await;
        }
        made
    }

    /// For what locks the table: behind a statement that waits, everybody else waits too.
    async fn run_briefly(&mut self, statement: &str) -> Result<(), StoreError> {
        self.run("set lock_timeout = '3s'").await?;
        let done = self.run(statement).await;
        self.run("set lock_timeout = 0").await?;
        done
    }

    /// One statement at a time: several would be one transaction.
    async fn run(&mut self, statement: &str) -> Result<(), StoreError> {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection).await?;
        Ok(())
    }
}

fn unable(message: String) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, message)
}
