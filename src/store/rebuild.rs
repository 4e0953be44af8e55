//! What a rebuild reads and mends beside what every batch does: which accounts there are, what the ledger says of an owner,
//! and the columns of `provider_objects` that are looked up by and follow from the fact beside them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::FromRow;

use crate::domain::billing::accounts::rebuilding::OwnerHistory;
use crate::domain::billing::differences::Difference;
use crate::domain::billing::facts::Fact;
use crate::domain::billing::stored::NewestEvent;
use crate::domain::event::{ObjectKey, Provider};
use crate::domain::rules::{Livemode, Rules};
use crate::store::error::StoreError;
use crate::store::facts::Derived;
use crate::store::locks::LockSet;
use crate::store::pool::{Store, Tx};

macro_rules! derived_columns {
    () => {
        "o.provider, o.account, o.object_id, o.owner_id, w.clerk_user_id, o.deleted_at, \
         case when o.object_type in ('invoice', 'payment_intent') then o.fact::text end as fact, o.read_singly, \
         o.evidence_created_at, o.summed_subscription, o.summed_start_at, o.summed_conversion_at \
         from billsync.provider_objects o left join billsync.owners w on w.owner_id = o.owner_id "
    };
}

statements! {
    /// Every customer and Clerk user that anything is known of, ascending, after $1.
    LIST_ACCOUNT_IDS = "\
        select id from ( \
            (select owner_id as id from billsync.owners where owner_id > $1 order by 1 limit $2) \
            union (select distinct owner_id from billsync.provider_objects \
                where owner_id > $1 and account = '' order by 1 limit $2) \
            union (select distinct owner_id from billsync.webhook_events where owner_id > $1 order by 1 limit $2) \
            union (select distinct claimed_customer_id from billsync.owners \
                where claimed_customer_id > $1 order by 1 limit $2) \
            union (select distinct imported_customer_id from billsync.owners \
                where imported_customer_id > $1 order by 1 limit $2) \
            union (select customer_id from billsync.operator_links where customer_id > $1 order by 1 limit $2) \
            union (select user_id from public.users where user_id > $1 order by 1 limit $2) \
        ) ids order by id limit $2";

    COUNT_ACCOUNTS = "\
        select (select greatest(reltuples, 0)::int8 from pg_catalog.pg_class where oid = 'billsync.owners'::regclass), \
            (select greatest(reltuples, 0)::int8 from pg_catalog.pg_class where oid = 'billsync.provider_objects'::regclass)";

    /// The customers that are a user's, or that anything says might be. Reads every fact: it is asked for one user.
    LIST_CUSTOMERS_OF_USER = "\
        select owner_id from billsync.owners where clerk_user_id = $1 \
        union select claimed_customer_id from billsync.owners where owner_id = $1 and claimed_customer_id is not null \
        union select imported_customer_id from billsync.owners where owner_id = $1 and imported_customer_id is not null \
        union select customer_id from billsync.operator_links where clerk_user_id = $1 \
        union select b.stripe_customer_id from public.user_billing b join public.users u on u.id = b.user_id \
            where u.user_id = $1 and b.stripe_customer_id is not null \
        union select o.owner_id from billsync.provider_objects o \
            where o.account = '' and o.provider = 'stripe' and o.owner_id is not null and o.fact ->> 'clerk_user_id' = $1 \
        union select o.fact ->> 'stripe_customer_id' from billsync.provider_objects o \
            where o.account = '' and o.provider in ('clerk', 'import') and o.object_id = $1 \
              and o.fact ->> 'stripe_customer_id' is not null \
        union select c.owner_id from billsync.owners c join billsync.owners u on u.owner_id = $1 and c.emails && u.emails \
            where c.owner_id <> $1";

    /// Whether anything at all is known of a Clerk user.
    IS_USER_KNOWN = "\
        select exists (select from public.users where user_id = $1) \
            or exists (select from billsync.owners where owner_id = $1) \
            or exists (select from billsync.provider_objects where owner_id = $1)";

    /// Of each owner ($1): its newest event by the provider's clock, of our own account and of the modes accepted ($2: which
    /// mode alone); and whether an object that the projection reads ($3) has ever named it.
    ///
    /// The ledger does not keep the Connect account: an event whose payload names one, or whose object is known of a
    /// connected account alone, is none of ours.
    LOAD_OWNER_HISTORIES = "\
        select c.id, e.event_type, e.event_id, e.occurred_at, e.outcome = 'failed', \
            exists (select from billsync.provider_objects o \
                where o.owner_id = c.id and o.object_type = any($3) and o.account = '' and o.provider = 'stripe') \
            or exists (select from billsync.webhook_events n join billsync.provider_objects o \
                on o.provider = 'stripe' and o.account = '' and o.object_id = n.object_id and o.object_type = any($3) \
                where n.owner_id = c.id and n.provider = 'stripe' and n.outcome <> 'failed') \
        from unnest($1::text[]) as c(id) \
        left join lateral (select n.event_type, n.event_id, n.occurred_at, n.outcome from billsync.webhook_events n \
            where n.owner_id = c.id and n.source not in ('reconcile', 'job') \
              and ($2::bool is null or n.livemode is null or n.livemode = $2) \
              and (n.provider <> 'stripe' or not ( \
                coalesce((select p.payload ->> 'account' from billsync.webhook_payloads p \
                    where p.received_at = n.received_at and p.provider = n.provider and p.event_id = n.event_id), '') <> '' \
                or exists (select from billsync.provider_objects a \
                        where a.provider = 'stripe' and a.account <> '' and a.object_id = n.object_id) \
                    and not exists (select from billsync.provider_objects a \
                        where a.provider = 'stripe' and a.account = '' and a.object_id = n.object_id))) \
            order by n.occurred_at desc, n.event_id collate \"C\" desc limit 1) e on true";

    /// Every object, in the order of the key.
    LIST_DERIVED = concat!("select ", derived_columns!(), "\
        where (o.provider, o.account, o.object_id) > ($1, $2, $3) \
        order by o.provider, o.account, o.object_id limit $4");

    LIST_DERIVED_OF_OWNERS = concat!("select ", derived_columns!(), "\
        where o.owner_id = any($5) and (o.provider, o.account, o.object_id) > ($1, $2, $3) \
        order by o.provider, o.account, o.object_id limit $4");

    LOAD_DERIVED = concat!("select ", derived_columns!(), "\
        join unnest($1::text[], $2::text[], $3::text[]) as k(provider, account, object_id) \
          on k.provider = o.provider and k.account = o.account and k.object_id = o.object_id");

    UPDATE_DERIVED = "\
        update billsync.provider_objects o set read_singly = x.read_singly, evidence_created_at = x.evidence_created_at, \
            summed_subscription = x.summed_subscription, summed_start_at = x.summed_start_at, \
            summed_conversion_at = x.summed_conversion_at \
        from unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::timestamptz[], $6::text[], $7::timestamptz[], \
            $8::timestamptz[]) as x(provider, account, object_id, read_singly, evidence_created_at, summed_subscription, \
            summed_start_at, summed_conversion_at) \
        where o.provider = x.provider and o.account = x.account and o.object_id = x.object_id";
}

/// The object types of [`crate::domain::billing::facts`] that a Stripe customer owns.
const CUSTOMER_OBJECTS: [&str; 10] = [
    "customer",
    "subscription",
    "subscription_schedule",
    "payment_method",
    "card",
    "source",
    "invoice",
    "checkout.session",
    "payment_intent",
    "test_helpers.test_clock",
];

/// Where a walk through the objects stands: the key of the last one seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectCursor(Option<(String, String, String)>);

/// An object whose derived columns are not what its fact says.
#[derive(Clone, Debug, PartialEq)]
pub struct DerivedColumns {
    pub key: ObjectKey,
    pub owner_id: Option<String>,
    /// The user that the owner is linked to.
    pub clerk_user_id: Option<String>,
    pub differences: Vec<Difference>,
}

#[derive(Debug, FromRow)]
struct DerivedRow {
    provider: String,
    account: String,
    object_id: String,
    owner_id: Option<String>,
    clerk_user_id: Option<String>,
    deleted_at: Option<DateTime<Utc>>,
    fact: Option<String>,
    read_singly: bool,
    evidence_created_at: Option<DateTime<Utc>>,
    summed_subscription: Option<String>,
    summed_start_at: Option<DateTime<Utc>>,
    summed_conversion_at: Option<DateTime<Utc>>,
}

/// An owner, its newest event (type, id, time, failed), whether it has facts.
type HistoryRow = (String, Option<String>, Option<String>, Option<DateTime<Utc>>, Option<bool>, bool);

impl DerivedRow {
    fn fact(&self) -> Option<Fact> {
        serde_json::from_str(self.fact.as_deref()?).ok()
    }

    fn compare(&self) -> Option<DerivedColumns> {
        let fact = self.fact();
        let derived = Derived::of(&self.account, fact.as_ref(), self.deleted_at);
        let columns: [(&str, Value, Value); 5] = [
            ("read_singly", json!(self.read_singly), json!(derived.read_singly)),
            ("evidence_created_at", json!(self.evidence_created_at), json!(derived.evidence_created_at)),
            ("summed_subscription", json!(self.summed_subscription), json!(derived.summed.map(|summed| summed.0))),
            ("summed_start_at", json!(self.summed_start_at), json!(derived.summed.map(|summed| summed.1))),
            ("summed_conversion_at", json!(self.summed_conversion_at), json!(derived.conversion_at)),
        ];
        let differences = columns.into_iter().filter(|(_, stored, recomputed)| stored != recomputed);
        let differences: Vec<Difference> = differences
            .map(|(column, stored, recomputed)| Difference {
                user_id: self.clerk_user_id.clone(),
                table: "provider_objects".to_owned(),
                column: column.to_owned(),
                row: Some(self.object_id.clone()),
                stored,
                recomputed,
            })
            .collect();
        (!differences.is_empty()).then(|| DerivedColumns {
            key: ObjectKey {
                provider: Provider::parse(&self.provider).unwrap_or(Provider::Stripe),
                account: self.account.clone(),
                object_id: self.object_id.clone(),
            },
            owner_id: self.owner_id.clone(),
            clerk_user_id: self.clerk_user_id.clone(),
            differences,
        })
    }
}

impl Store {
    /// The customers and Clerk users that anything is known of, ascending, after the given one.
    pub async fn list_account_ids(&self, after: &str, limit: i64) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(LIST_ACCOUNT_IDS).bind(after.to_owned()).bind(limit);
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// About how many accounts and objects there are, as the planner remembers: for a progress bar.
    pub async fn estimate_accounts(&self) -> Result<(u64, u64), StoreError> {
        let mut tx = self.begin().await?;
        let (accounts, objects): (i64, i64) = tx.query_as(COUNT_ACCOUNTS).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok((u64::try_from(accounts).unwrap_or_default(), u64::try_from(objects).unwrap_or_default()))
    }

    /// The customers that are a user's or might be; `None` when nothing is known of the user.
    pub async fn list_customers_of_user(&self, clerk_id: &str) -> Result<Option<Vec<String>>, StoreError> {
        let mut tx = self.begin_with("begin; set local statement_timeout = '300s'").await?;
        let (known,): (bool,) = tx.query_as(IS_USER_KNOWN).bind(clerk_id.to_owned()).fetch_one(tx.connection()?).await?;
        let query = tx.query_as::<(String,)>(LIST_CUSTOMERS_OF_USER).bind(clerk_id.to_owned());
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(known.then(|| rows.into_iter().map(|(id,)| id).collect()))
    }

    /// Reads the next objects, of all owners or of these, and tells those whose derived columns are wrong, and how many
    /// were read. Takes no lock: whoever mends looks again. The cursor is at its end when none were read.
    pub async fn check_derived(
        &self,
        cursor: &mut ObjectCursor,
        owner_ids: Option<&[String]>,
        limit: i64,
    ) -> Result<(Vec<DerivedColumns>, u64), StoreError> {
        let (provider, account, object_id) = cursor.0.clone().unwrap_or_default();
        let mut tx = self.begin().await?;
        let sql = if owner_ids.is_some() { LIST_DERIVED_OF_OWNERS } else { LIST_DERIVED };
        let mut query = tx.query_as::<DerivedRow>(sql).bind(provider).bind(account).bind(object_id).bind(limit);
        if let Some(owner_ids) = owner_ids {
            query = query.bind(owner_ids.to_vec());
        }
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        if let Some(last) = rows.last() {
            cursor.0 = Some((last.provider.clone(), last.account.clone(), last.object_id.clone()));
        }
        Ok((rows.iter().filter_map(DerivedRow::compare).collect(), rows.len() as u64))
    }

    /// Looks again at objects that were found wrong, under the locks of whoever writes them, and mends them. Returns those
    /// that were still wrong. `dry_run`: nothing is written.
    pub async fn mend_derived(&self, found: &[DerivedColumns], dry_run: bool) -> Result<Vec<DerivedColumns>, StoreError> {
        let mut locks = LockSet::default();
        for object in found {
            locks.add_object(&object.key.object_id);
            object.owner_id.iter().for_each(|owner_id| locks.add_object(owner_id));
        }
        let mut tx = self.begin_batch(&locks).await?;
        let wrong = mend(&mut tx, found, dry_run).await;
        tx.end(wrong).await
    }
}

async fn mend(tx: &mut Tx, found: &[DerivedColumns], dry_run: bool) -> Result<Vec<DerivedColumns>, StoreError> {
    let query = tx
        .query_as::<DerivedRow>(LOAD_DERIVED)
        .bind(found.iter().map(|object| object.key.provider.as_str()).collect::<Vec<_>>())
        .bind(found.iter().map(|object| object.key.account.as_str()).collect::<Vec<_>>())
        .bind(found.iter().map(|object| object.key.object_id.as_str()).collect::<Vec<_>>());
    let mut rows = query.fetch_all(tx.connection()?).await?;
    rows.retain(|row| row.compare().is_some());
    if !dry_run && !rows.is_empty() {
        let facts: Vec<Option<Fact>> = rows.iter().map(DerivedRow::fact).collect();
        let derived: Vec<Derived> =
            rows.iter().zip(&facts).map(|(row, fact)| Derived::of(&row.account, fact.as_ref(), row.deleted_at)).collect();
        let query = tx
            .query(UPDATE_DERIVED)
            .bind(rows.iter().map(|row| row.provider.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.account.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.object_id.as_str()).collect::<Vec<_>>())
            .bind(derived.iter().map(|d| d.read_singly).collect::<Vec<_>>())
            .bind(derived.iter().map(|d| d.evidence_created_at).collect::<Vec<_>>())
            .bind(derived.iter().map(|d| d.summed.map(|summed| summed.0)).collect::<Vec<_>>())
            .bind(derived.iter().map(|d| d.summed.map(|summed| summed.1)).collect::<Vec<_>>())
            .bind(derived.iter().map(|d| d.conversion_at).collect::<Vec<_>>());
        query.execute(tx.connection()?).await?;
    }
    Ok(rows.iter().filter_map(DerivedRow::compare).collect())
}

/// What the ledger says of owners. Their locks have to be held.
pub async fn load_owner_histories(
    tx: &mut Tx,
    owner_ids: &[String],
    rules: &Rules,
) -> Result<HashMap<String, OwnerHistory>, StoreError> {
    let mode = match rules.livemode {
        Livemode::Any => None,
        Livemode::Live => Some(true),
        Livemode::Test => Some(false),
    };
    let types: Vec<&str> = CUSTOMER_OBJECTS.to_vec();
    let query = tx.query_as::<HistoryRow>(LOAD_OWNER_HISTORIES).bind(owner_ids.to_vec()).bind(mode).bind(types);
    let rows = query.fetch_all(tx.connection()?).await?;
    let history = |(id, event_type, event_id, at, failed, has_facts): HistoryRow| {
        let newest = match (event_type, event_id, at) {
            (Some(event_type), Some(event_id), Some(at)) => {
                Some(NewestEvent { at, event_id, event_type, failed: failed.unwrap_or_default() })
            }
            _ => None,
        };
        (id, OwnerHistory { newest, has_facts })
    };
    Ok(rows.into_iter().map(history).collect())
}
