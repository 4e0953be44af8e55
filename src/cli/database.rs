//! The database of a command: the configured one, or the embedded server, which is then ended last.

use anyhow::{Context, bail};
use thiserror::Error;

use crate::clock::Clock;
use crate::config::{Config, Pooler};
use crate::embedded_postgres::{EmbeddedPostgres, Options};
use crate::store::{PoolerMode, Store, StoreSettings};

/// What to do about migrations that have not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Run them, unless `BILLSYNC_MIGRATE` says otherwise.
    Migrate,
    /// Say that they are missing; only the embedded database, which is ours alone, is migrated by whoever comes first.
    Expect,
    /// Nothing: the command is about them.
    Ignore,
}

/// The server is away, refuses us, or is not what we need. Names it without a password.
#[derive(Debug, Error)]
#[error("cannot use the database ({0})")]
pub struct UnusableDatabase(String);

/// An open database.
#[derive(Debug)]
pub struct Database {
    pub store: Store,
    embedded: Option<EmbeddedPostgres>,
    /// For people; without a password.
    pub description: String,
}

impl Database {
    /// Connects, starting the embedded server when no database is configured.
    pub async fn open(config: &Config, schema: Schema) -> anyhow::Result<Database> {
        let embedded = match config.database_url {
            Some(_) => None,
            None => Some(start_embedded(config).await?),
        };
        let opened = connect(config, embedded.as_ref(), schema).await;
        match opened {
            Ok((store, description)) => Ok(Database { store, embedded, description }),
            Err(error) => {
                stop_embedded(embedded).await?;
                Err(error)
            }
        }
    }

    /// Returns when the embedded server has ended for good, which a process that serves must not survive: a supervisor's
    /// next start makes a new one. Never for a database that is not ours.
    pub async fn lost(&self) -> anyhow::Error {
        match &self.embedded {
            Some(embedded) => embedded.lost().await.into(),
            None => std::future::pending().await,
        }
    }

    /// Closes the connections, then ends the embedded server.
    pub async fn close(self) -> anyhow::Result<()> {
        self.store.close().await;
        stop_embedded(self.embedded).await
    }

    /// Closes after `work`, whose error comes first.
    pub async fn close_after<T>(self, work: anyhow::Result<T>) -> anyhow::Result<T> {
        let closed = self.close().await;
        let value = work?;
        closed?;
        Ok(value)
    }
}

/// Starts the embedded server.
pub async fn start_embedded(config: &Config) -> anyhow::Result<EmbeddedPostgres> {
    let options = Options { binaries: config.postgres_bin.clone(), ..Options::new(&config.home) };
    let started = EmbeddedPostgres::start(&options).await;
    started.with_context(|| {
        format!("the embedded database below BILLSYNC_HOME ({}), since DATABASE_URL is not set", config.home.display())
    })
}

/// Ends the embedded server, if there is one.
pub async fn stop_embedded(embedded: Option<EmbeddedPostgres>) -> anyhow::Result<()> {
    match embedded {
        Some(embedded) => embedded.stop().await.context("the embedded database"),
        None => Ok(()),
    }
}

async fn connect(config: &Config, embedded: Option<&EmbeddedPostgres>, schema: Schema) -> anyhow::Result<(Store, String)> {
    let (url, description) = match (&config.database_url, embedded) {
        (Some(url), _) => (url.expose().to_owned(), url.to_string()),
        (None, Some(embedded)) => (embedded.url().to_owned(), format!("embedded PostgreSQL in {}", embedded.folder().display())),
        (None, None) => bail!("there is no database"),
    };
    let settings = StoreSettings {
        migration_url: config.migration_database_url.as_ref().map(|url| url.expose().to_owned()),
        pooler: match config.pooler {
            Pooler::None => PoolerMode::Session,
            Pooler::Transaction => PoolerMode::Transaction,
        },
        ..StoreSettings::new(url)
    };
    let store = Store::connect(&settings).await.with_context(|| UnusableDatabase(description.clone()))?;
    let migrates = match schema {
        Schema::Migrate => config.migrate || embedded.is_some(),
        Schema::Expect => embedded.is_some(),
        Schema::Ignore => return Ok((store, description)),
    };
    // Before the migrations are looked at: to a role whose rows are hidden, none seems to have run.
    store.verify_role().await?;
    if migrates {
        let ran = store.migrate(Clock::System.now()).await.context("cannot migrate the schema")?;
        if !ran.is_empty() {
            tracing::info!(migrations = ran.len(), "migrated the schema");
            store.verify_role().await?;
        }
    } else {
        expect_migrated(&store).await?;
    }
    Ok((store, description))
}

async fn expect_migrated(store: &Store) -> anyhow::Result<()> {
    let missing = store.missing_migrations().await?;
    if !missing.is_empty() {
        if let Some(table) = store.find_foreign_table().await? {
            bail!(
                "the table public.{table} was made by something else than billsync: adopt the database with `billsync migrate baseline`"
            );
        }
        bail!("{} migrations have not run on this database: run `billsync migrate run`", missing.len());
    }
    Ok(())
}
