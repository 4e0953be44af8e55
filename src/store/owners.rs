//! `billsync.owners` and `billsync.operator_links`: whose a customer is, and who is related to whom.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::FromRow;

use crate::domain::billing::stored::{LinkedBy, NewestEvent, OperatorLink, Owner};
use crate::store::error::StoreError;
use crate::store::pool::{Statement, Tx};

statements! {
    LOAD_OWNERS_BY_EMAIL = "\
        select o.owner_id, o.clerk_user_id, o.linked_by, o.newest_type, o.newest_id, o.newest_at, o.newest_failed, \
            o.has_facts, o.claimed_customer_id, o.imported_customer_id, o.test_clock, o.emails \
        from billsync.owners o where o.emails && $1";

    UPSERT_OPERATOR_LINK = "\
        insert into billsync.operator_links (customer_id, clerk_user_id, reason) values ($1, $2, $3) \
        on conflict (customer_id) do update set clerk_user_id = excluded.clerk_user_id, reason = excluded.reason";

    DELETE_OPERATOR_LINK = "delete from billsync.operator_links where customer_id = $1";
}

parts! {
    UPSERT_OWNERS = "\
        owners_written as (insert into billsync.owners (owner_id, clerk_user_id, linked_by, newest_type, newest_id, \
            newest_at, newest_failed, has_facts, claimed_customer_id, imported_customer_id, test_clock, emails) \
        select x.owner_id, x.clerk_user_id, x.linked_by, x.newest_type, x.newest_id, x.newest_at, x.newest_failed, \
            x.has_facts, x.claimed_customer_id, x.imported_customer_id, x.test_clock, \
            array(select jsonb_array_elements_text(x.emails::jsonb)) \
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bool[], $8::bool[], \
            $9::text[], $10::text[], $11::text[], $12::text[]) \
            as x(owner_id, clerk_user_id, linked_by, newest_type, newest_id, newest_at, newest_failed, has_facts, \
                claimed_customer_id, imported_customer_id, test_clock, emails) \
        on conflict (owner_id) do update set \
            clerk_user_id = excluded.clerk_user_id, linked_by = excluded.linked_by, newest_type = excluded.newest_type, \
            newest_id = excluded.newest_id, newest_at = excluded.newest_at, newest_failed = excluded.newest_failed, \
            has_facts = excluded.has_facts, claimed_customer_id = excluded.claimed_customer_id, \
            imported_customer_id = excluded.imported_customer_id, test_clock = excluded.test_clock, \
            emails = excluded.emails)";
}

/// A row of `billsync.owners`.
#[derive(Debug, FromRow, Deserialize)]
pub(crate) struct OwnerRow {
    owner_id: String,
    clerk_user_id: Option<String>,
    linked_by: Option<String>,
    newest_type: Option<String>,
    newest_id: Option<String>,
    /// JSON has no form for every instant of Postgres: it travels beside.
    #[serde(skip)]
    pub newest_at: Option<DateTime<Utc>>,
    newest_failed: bool,
    has_facts: bool,
    claimed_customer_id: Option<String>,
    imported_customer_id: Option<String>,
    test_clock: Option<String>,
    emails: Vec<String>,
}

impl From<OwnerRow> for Owner {
    fn from(row: OwnerRow) -> Owner {
        let newest = match (row.newest_at, row.newest_id, row.newest_type) {
            (Some(at), Some(event_id), Some(event_type)) => {
                Some(NewestEvent { at, event_id, event_type, failed: row.newest_failed })
            }
            _ => None,
        };
        Owner {
            owner_id: row.owner_id,
            clerk_user_id: row.clerk_user_id,
            linked_by: row.linked_by.as_deref().and_then(LinkedBy::parse),
            newest,
            claimed_customer_id: row.claimed_customer_id,
            imported_customer_id: row.imported_customer_id,
            emails: row.emails,
            test_clock: row.test_clock,
            has_facts: row.has_facts,
        }
    }
}

/// The rows of everybody who has one of the addresses.
pub(crate) async fn load_by_email(tx: &mut Tx, emails: &[&str]) -> Result<Vec<Owner>, StoreError> {
    let query = tx.query_as::<OwnerRow>(LOAD_OWNERS_BY_EMAIL).bind(emails);
    Ok(query.fetch_all(tx.connection()?).await?.into_iter().map(Owner::from).collect())
}

/// Binds [`UPSERT_OWNERS`]; one entry per key.
pub(crate) fn bind_upsert(query: Statement, owners: &[Owner]) -> Statement {
    let newest: Vec<Option<&NewestEvent>> = owners.iter().map(|owner| owner.newest.as_ref()).collect();
    query
        .bind(owners.iter().map(|owner| owner.owner_id.as_str()).collect::<Vec<_>>())
        .bind(owners.iter().map(|owner| owner.clerk_user_id.as_deref()).collect::<Vec<_>>())
        .bind(owners.iter().map(|owner| owner.linked_by.map(LinkedBy::as_str)).collect::<Vec<_>>())
        .bind(newest.iter().map(|event| event.map(|e| e.event_type.as_str())).collect::<Vec<_>>())
        .bind(newest.iter().map(|event| event.map(|e| e.event_id.as_str())).collect::<Vec<_>>())
        .bind(newest.iter().map(|event| event.map(|e| e.at)).collect::<Vec<_>>())
        .bind(newest.iter().map(|event| event.is_some_and(|e| e.failed)).collect::<Vec<_>>())
        .bind(owners.iter().map(|owner| owner.has_facts).collect::<Vec<_>>())
        .bind(owners.iter().map(|owner| owner.claimed_customer_id.as_deref()).collect::<Vec<_>>())
        .bind(owners.iter().map(|owner| owner.imported_customer_id.as_deref()).collect::<Vec<_>>())
        .bind(owners.iter().map(|owner| owner.test_clock.as_deref()).collect::<Vec<_>>())
        .bind(owners.iter().map(|owner| serde_json::Value::from(owner.emails.clone()).to_string()).collect::<Vec<_>>())
}

/// Writes what the operator says of a customer; `None` takes it back.
pub async fn write_operator_link(
    tx: &mut Tx,
    customer_id: &str,
    link: Option<&OperatorLink>,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let query = match link {
        Some(link) => {
            let query = tx.query(UPSERT_OPERATOR_LINK).bind(customer_id.to_owned());
            query.bind(link.clerk_user_id.clone()).bind(reason.map(str::to_owned))
        }
        None => tx.query(DELETE_OPERATOR_LINK).bind(customer_id.to_owned()),
    };
    query.execute(tx.connection()?).await?;
    Ok(())
}
