//! What comparing with the providers reads of our own side: objects as they are held, customers and whose they are. Nothing here locks.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::FromRow;

use crate::domain::erasure::id_hash;
use crate::store::error::StoreError;
use crate::store::pool::Store;

/// Customers alone have facts of Stripe's or a user. $1: only those that have a user. A deleted one has nothing more to tell.
macro_rules! is_meant {
    () => {
        "(o.clerk_user_id is not null or o.has_facts and not $1) and o.test_clock is null \
         and not exists (select from billsync.provider_objects p where p.provider = 'stripe' and p.account = '' \
            and p.object_id = o.owner_id and p.deleted_at is not null)"
    };
}

statements! {
    LIST_HELD_OBJECTS = "\
        select object_id, owner_id, as_of, coalesce(terminal, false) as terminal, deleted_at, fact::text as fact \
        from billsync.provider_objects where provider = $1 and account = '' and object_id = any($2)";

    /// Users of Clerk's that are not deleted as far as we know, and that nothing has changed since $2.
    LIST_HELD_USERS = "\
        select object_id from billsync.provider_objects \
        where provider = 'clerk' and account = '' and object_id > $1 and object_type = 'user' and deleted_at is null \
          and as_of < $2 order by object_id limit $3";

    LIST_ERASED = "select id_hash from billsync.erasures where id_hash = any($1)";

    LIST_CUSTOMER_OWNERS = "select owner_id, clerk_user_id, test_clock from billsync.owners where owner_id = any($1)";

    LIST_CUSTOMERS = concat!("\
        select o.owner_id from billsync.owners o where ", is_meant!(), " and o.owner_id > $2 order by o.owner_id limit $3");

    COUNT_CUSTOMERS = concat!("select count(*) from billsync.owners o where ", is_meant!());

    /// Subscriptions held as live, and payment methods held as attached: what a list of the customer's has to return.
    LIST_CURRENT_OBJECTS = "\
        select p.object_id, p.owner_id from billsync.provider_objects p \
        where p.owner_id = any($1) and p.provider = 'stripe' and p.account = '' and p.deleted_at is null \
          and p.object_type = $2 and case p.object_type \
            when 'subscription' then p.fact ->> 'status' not in ('canceled', 'incomplete_expired') \
            when 'payment_method' then p.fact ->> 'customer' = p.owner_id and not coalesce((p.fact ->> 'detached')::boolean, false) \
            else true end";

    LIST_KNOWN_EVENTS = "select event_id from billsync.webhook_events where provider = 'stripe' and event_id = any($1)";
}

/// An object as we hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldObject {
    pub object_id: String,
    pub owner_id: Option<String>,
    pub as_of: Option<DateTime<Utc>>,
    pub terminal: bool,
    pub deleted_at: Option<DateTime<Utc>>,
    pub fact: Option<Value>,
}

/// Whose a customer is.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct CustomerOwner {
    pub owner_id: String,
    pub clerk_user_id: Option<String>,
    pub test_clock: Option<String>,
}

/// Which customers are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Customers {
    /// Those that belong to a user.
    Linked,
    /// Also those that nobody is linked to.
    Known,
}

#[derive(FromRow)]
struct HeldRow {
    object_id: String,
    owner_id: Option<String>,
    as_of: Option<DateTime<Utc>>,
    terminal: bool,
    deleted_at: Option<DateTime<Utc>>,
    fact: Option<String>,
}

impl From<HeldRow> for HeldObject {
    fn from(row: HeldRow) -> HeldObject {
        HeldObject {
            object_id: row.object_id,
            owner_id: row.owner_id,
            as_of: row.as_of,
            terminal: row.terminal,
            deleted_at: row.deleted_at,
            fact: row.fact.as_deref().and_then(|fact| serde_json::from_str(fact).ok()),
        }
    }
}

impl Store {
    /// A provider's objects of these ids, as far as we hold them.
    pub async fn list_held_objects(&self, provider: &'static str, ids: &[String]) -> Result<Vec<HeldObject>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<HeldRow>(LIST_HELD_OBJECTS).bind(provider).bind(ids.to_vec());
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(HeldObject::from).collect())
    }

    /// Clerk users by id, after one of them, whom we hold as there and whom nothing has changed since.
    pub async fn list_held_users(
        &self,
        after: &str,
        unchanged_since: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(LIST_HELD_USERS).bind(after.to_owned()).bind(unchanged_since).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// The hashes of those of the ids that were erased.
    pub async fn list_erased(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let hashes: Vec<String> = ids.iter().map(|id| id_hash(id)).collect();
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(LIST_ERASED).bind(hashes);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(hash,)| hash).collect())
    }

    /// Whose these customers are, as far as we know any of them.
    pub async fn list_customer_owners(&self, customers: &[String]) -> Result<Vec<CustomerOwner>, StoreError> {
        let mut tx = self.begin().await?;
        let rows = tx.query_as(LIST_CUSTOMER_OWNERS).bind(customers.to_vec()).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// Customers by id, after one of them; none that lives by a test clock.
    pub async fn list_customers(&self, which: Customers, after: &str, limit: i64) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(LIST_CUSTOMERS).bind(which == Customers::Linked).bind(after.to_owned()).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// How many [`Store::list_customers`] would list.
    pub async fn count_customers(&self, which: Customers) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(i64,)>(COUNT_CUSTOMERS).bind(which == Customers::Linked);
        let (count,) = query.fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(count.unsigned_abs())
    }

    /// The objects of a type that these customers have as far as we know, each with its customer.
    pub async fn list_current_objects(
        &self,
        customers: &[String],
        object_type: &'static str,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String, String)>(LIST_CURRENT_OBJECTS).bind(customers.to_vec()).bind(object_type);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows)
    }

    /// Which of these events of Stripe's the ledger has.
    pub async fn list_known_events(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let rows: Vec<(String,)> = tx.query_as(LIST_KNOWN_EVENTS).bind(ids.to_vec()).fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}
