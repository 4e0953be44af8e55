//! The rows of a load: whatever its statement gives, told apart by their kind.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres, Row};

use crate::domain::billing::stored::{InvoiceSummary, OperatorLink, Owner};
use crate::domain::event::{EventId, Provider};
use crate::store::facts::{Lookup, ObjectRow};
use crate::store::instants::MaybeAt;
use crate::store::ledger::KnownEvent;
use crate::store::owners::OwnerRow;
use crate::store::users::LockedUser;

/// Where an object's columns begin, and where those are that the other kinds use.
const OBJECT: usize = 1;
const AT: usize = 7;
const SECOND_AT: usize = 14;
const TIMES: usize = 16;
const REST: usize = 17;

#[derive(Debug)]
pub(super) enum LoadedRow {
    Object(ObjectRow),
    Event(KnownEvent),
    Owner(Owner),
    /// Of the Clerk users and their further customers.
    LateObject(ObjectRow),
    LateOwner(Owner),
    Link(OperatorLink),
    Summary(InvoiceSummary),
    User(Box<LockedUser>),
    /// The version of the catalog.
    Catalog(String),
    /// The hash of an id that is erased.
    Erased(String),
}

impl FromRow<'_, PgRow> for LoadedRow {
    fn from_row(row: &PgRow) -> Result<LoadedRow, sqlx::Error> {
        Ok(match row.try_get(0)? {
            "object" => LoadedRow::Object(ObjectRow::read(row, OBJECT)?),
            "event" => {
                let EventRest { provider, id, failed } = rest(row)?;
                LoadedRow::Event(KnownEvent { key: EventId { provider, id }, failed, received_at: row.try_get(AT)? })
            }
            "owner" => LoadedRow::Owner(owner(row)?),
            "late object" => LoadedRow::LateObject(ObjectRow::read(row, OBJECT)?),
            "late owner" => LoadedRow::LateOwner(owner(row)?),
            "link" => {
                let LinkRest { customer_id, clerk_user_id } = rest(row)?;
                LoadedRow::Link(OperatorLink { customer_id, clerk_user_id })
            }
            "summary" => {
                let SummaryRest { customer_id, subscription } = rest(row)?;
                let (since, converted_at) = (row.try_get(AT)?, row.try_get(SECOND_AT)?);
                LoadedRow::Summary(InvoiceSummary { customer_id, subscription, since, converted_at })
            }
            "user" => {
                let user: LockedUser = rest(row)?;
                let times: Vec<MaybeAt> = row.try_get(TIMES)?;
                LoadedRow::User(Box::new(user.with_times(times.into_iter().map(Option::from).collect())))
            }
            "erased" => LoadedRow::Erased(row.try_get(REST)?),
            "catalog" => LoadedRow::Catalog(row.try_get(REST)?),
            kind => return Err(sqlx::Error::Decode(format!("a load gave a row of the kind {kind}").into())),
        })
    }
}

#[derive(Deserialize)]
struct EventRest {
    provider: Provider,
    id: String,
    failed: bool,
}

#[derive(Deserialize)]
struct LinkRest {
    customer_id: String,
    clerk_user_id: Option<String>,
}

#[derive(Deserialize)]
struct SummaryRest {
    customer_id: String,
    subscription: String,
}

fn owner(row: &PgRow) -> Result<Owner, sqlx::Error> {
    let mut owner: OwnerRow = rest(row)?;
    owner.newest_at = row.try_get(AT)?;
    Ok(owner.into())
}

fn rest<T: DeserializeOwned>(row: &PgRow) -> Result<T, sqlx::Error> {
    serde_json::from_str(row.try_get(REST)?).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// What a load is asked with.
pub(super) type Load<'q> = QueryAs<'q, Postgres, LoadedRow, PgArguments>;

/// Binds the five parameters that objects are looked up by.
pub(super) fn bind_lookups<'q>(query: Load<'q>, lookups: &'q [&'q Lookup]) -> Load<'q> {
    let terminals: Vec<Option<bool>> = lookups.iter().map(|lookup| lookup.order.map(|(terminal, _)| terminal)).collect();
    let times: Vec<Option<DateTime<Utc>>> = lookups.iter().map(|lookup| lookup.order.map(|(_, as_of)| as_of)).collect();
    query
        .bind(lookups.iter().map(|lookup| lookup.key.provider.as_str()).collect::<Vec<_>>())
        .bind(lookups.iter().map(|lookup| lookup.key.account.as_str()).collect::<Vec<_>>())
        .bind(lookups.iter().map(|lookup| lookup.key.object_id.as_str()).collect::<Vec<_>>())
        .bind(terminals)
        .bind(times)
}
