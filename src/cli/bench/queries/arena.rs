//! The database that is measured in: made by the bench, marked as its own, used by one bench at a time, and dropped by it.
//! Any other database is refused.

use anyhow::{Context, bail, ensure};

use crate::cli::database::{start_embedded, stop_embedded};
use crate::cli::output::complain;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::embedded_postgres::EmbeddedPostgres;
use crate::store::{DatabaseName, DatabaseServer, Owned, SampleSet, Store, StoreSettings};

/// A place for the data set.
#[derive(Debug)]
pub struct Arena {
    server: DatabaseServer,
    embedded: Option<EmbeddedPostgres>,
    name: DatabaseName,
    /// For people; without a password.
    place: String,
}

impl Arena {
    /// Finds the server, and makes sure that the database is nobody else's. Nothing is made yet.
    pub async fn open(config: &Config, on_server: bool, name: DatabaseName) -> anyhow::Result<Arena> {
        let configured = match on_server {
            true => Some(config.migration_database_url.as_ref().or(config.database_url.as_ref()).ok_or_else(needs_url)?),
            false => None,
        };
        let embedded = match configured {
            Some(_) => None,
            None => Some(start_embedded(config).await?),
        };
        let (url, place) = match (configured, &embedded) {
            (Some(url), _) => (url.expose(), url.to_string()),
            (None, Some(embedded)) => (embedded.url(), format!("embedded PostgreSQL in {}", embedded.folder().display())),
            (None, None) => bail!("there is no server"),
        };
        let found = find(url, &name).await.with_context(|| format!("cannot use the database server ({place})"));
        match found {
            Ok(server) => Ok(Arena { server, embedded, name, place }),
            Err(error) => {
                stop_embedded(embedded).await?;
                Err(error)
            }
        }
    }

    /// A database with that data set, or part of it, or none; migrated.
    pub async fn prepare(&mut self, set: &SampleSet) -> anyhow::Result<Store> {
        if self.server.find(&self.name).await? == Owned::Ours {
            self.server.mark(&self.name).await?;
            let store = self.connect().await?;
            match store.find_sample_data().await? {
                Some(state) if state.is_of(set) => {
                    let verb = if state.is_complete { "measuring" } else { "going on with" };
                    complain(&format!("{verb} the data set of {} users in {} ({})", set.users, self.name, self.place));
                    return Ok(store);
                }
                Some(other) => complain(&format!(
                    "{} holds a data set of {} users, which is dropped for one of {} users",
                    self.name, other.set.users, set.users
                )),
                None => {}
            }
            store.close().await;
            self.server.drop_database(&self.name).await?;
        }
        complain(&format!("making a data set of {} users in {} ({})", set.users, self.name, self.place));
        self.server.create(&self.name).await.with_context(|| {
            format!("cannot make the database {}: is the role allowed to? (alter role … createdb)", self.name)
        })?;
        self.connect().await
    }

    /// Drops the database unless it is to be kept, and ends everything that was begun for it; the error of the work comes first.
    pub async fn close_after<T>(mut self, work: anyhow::Result<T>, keep: bool) -> anyhow::Result<T> {
        let dropped = match keep {
            true => Ok(()),
            false => {
                self.server.drop_database(&self.name).await.with_context(|| format!("cannot drop the database {}", self.name))
            }
        };
        self.server.close().await;
        let stopped = stop_embedded(self.embedded).await;
        let value = work?;
        dropped?;
        stopped?;
        if keep {
            complain(&format!("the data set stays in {} ({}); without --keep the next run drops it", self.name, self.place));
        }
        Ok(value)
    }

    async fn connect(&self) -> anyhow::Result<Store> {
        let store = Store::connect(&StoreSettings::new(self.server.url_of(&self.name))).await?;
        store.migrate(Clock::System.now()).await.context("cannot migrate the schema")?;
        Ok(store)
    }
}

async fn find(url: &str, name: &DatabaseName) -> anyhow::Result<DatabaseServer> {
    let mut server = DatabaseServer::connect(url).await?;
    ensure!(server.try_lock(name).await?, "another bench uses the database {name}: wait for its end, or give another --database");
    ensure!(
        server.find(name).await? != Owned::Others,
        "the database {name} was not made by billsync bench, which measures in no other: give another --database"
    );
    Ok(server)
}

fn needs_url() -> ConfigError {
    ConfigError { problems: vec!["DATABASE_URL: is needed with --on-server, to make a database on its server".to_owned()] }
}
