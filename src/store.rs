//! All SQL. sqlx is used here and nowhere else: [`Tx`] is the only type of it that leaves, and it is opaque. Statements
//! are named constants, so that one test can prepare every one of them against the migrated schema.

#[macro_use]
mod statements;

mod apply;
mod baseline;
mod campaigns;
mod consume;
mod creator_lists;
mod database_overview;
mod database_server;
mod diagnosis;
mod erasure;
mod error;
mod events;
mod expected_schema;
mod facts;
mod gathering;
mod grants;
mod hints;
mod history;
mod index_builder;
mod index_state;
mod inspect;
mod instants;
mod ledger;
mod list_items;
mod load;
mod locks;
mod migrations;
mod owners;
mod payloads;
mod people;
mod plan_log;
mod plans;
mod pool;
mod pressure;
mod profile_update;
mod profiles;
mod raw_json;
mod rebuild;
mod reconcile;
mod refetch_queue;
mod retention;
mod sample_data;
mod schedule;
mod scraping_jobs;
mod scraping_results;
mod session;
mod stats;
mod sync_cursors;
mod tx;
mod usage;
mod user_profiles;
mod users;
mod users_sql;

pub use apply::{probe_writes, write_batch};
pub use baseline::{Adopted, Baseline, Comparison, Difference};
pub use campaigns::{Campaign, CampaignFilter, CampaignOutcome, CampaignUpdate, NewCampaign};
pub use consume::{Meter, Metered, Reading, UsageRow};
pub use creator_lists::{CreatorList, CreatorListFilter, CreatorListUpdate};
pub use database_overview::{DatabaseSize, OwnerWithoutUser, StatementCost, Stray, TableSize};
pub use database_server::{DatabaseName, DatabaseServer, Owned};
pub use diagnosis::{Backlog, ExposedTable, LiveSubscription, PrivilegeGap, ServerDescription, UnprotectedTable};
pub use erasure::{Erasure, ErasureAttempt, Mentions, PayloadKey, Person, keep_customers_erased, lift_erasures};
pub use error::{ErrorKind, StoreError};
pub use events::{LedgerEvent, LedgerFilter};
pub use expected_schema::{Constraint, ExpectedIndex, ExpectedSchema, IndexKey, TableName};
pub use history::{LostEffects, PastEffect, Setter};
pub use index_builder::{IndexBuilder, IndexProgress};
pub use index_state::{Fault, FaultyIndex, IndexState, PresentIndex};
pub use inspect::{EventDetail, LedgerCount, Profile, ReplayFilter, StoredFact, TimelineEntry, UserKey};
pub use ledger::{KnownEvent, LedgerEntry};
pub use list_items::{ItemFilter, ItemOutcome, ListItem, NewItem, Ordered};
pub use load::{Concerned, First, Missing, Second, load_first, load_second};
pub use locks::LockSet;
pub use migrations::{MigrationState, MigrationStatus, schema_of_migrations};
pub use owners::write_operator_link;
pub use plan_log::{Plan, PlanLog};
pub use plans::PlanChange;
pub use pool::{BEGIN_BATCH, PoolerMode, Store, StoreSettings, Tx};
pub use pressure::Pressure;
pub use profile_update::{Change, ProfileUpdate, Updated, ensure_rows, write as write_profile};
pub use profiles::{UserFilter, UserProfile};
pub use raw_json::RawJson;
pub use rebuild::{DerivedColumns, ObjectCursor, load_owner_histories};
pub use reconcile::{CustomerOwner, Customers, HeldObject};
pub use refetch_queue::QueuedRefetch;
pub use sample_data::{SampleProgress, SampleSet, SampleState};
pub use schedule::LastRun;
pub use scraping_jobs::{Job, JobFilter, JobOutcome, JobUpdate, NewJob};
pub use scraping_results::JobResult;
pub use stats::DashboardRow;
pub use usage::{ArchivedPeriod, ClockCursor, DueUsage};
pub use user_profiles::{ImportedRows, KnownImport, OwnChange, ProfileReader, ProfileTable, write_own_columns};

/// Every statement by name: what the test of the schema prepares.
pub fn statements() -> Vec<(&'static str, &'static str)> {
    [
        &apply::all(),
        baseline::all().as_slice(),
        pool::ALL,
        tx::ALL,
        session::ALL,
        migrations::ALL,
        ledger::ALL,
        load::sql::ALL,
        owners::ALL,
        people::ALL,
        erasure::ALL,
        erasure::mentions::ALL,
        user_profiles::ALL,
        users_sql::ALL,
        plans::ALL,
        pressure::ALL,
        reconcile::ALL,
        refetch_queue::ALL,
        retention::ALL,
        consume::ALL,
        grants::ALL,
        sample_data::ALL,
        schedule::ALL,
        sync_cursors::ALL,
        usage::ALL,
        inspect::ALL,
        history::ALL,
        events::ALL,
        stats::ALL,
        campaigns::ALL,
        scraping_jobs::ALL,
        scraping_results::ALL,
        creator_lists::ALL,
        list_items::ALL,
        profiles::ALL,
        profile_update::ALL,
        rebuild::ALL,
        database_overview::ALL,
        database_server::ALL,
        diagnosis::ALL,
        index_builder::ALL,
        index_state::ALL,
    ]
    .concat()
}
