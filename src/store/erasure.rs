//! Erasing a person: tombstones, and every statement that takes out of our tables what is personal. What is deleted, what is
//! reduced and what stays is told in the README under "Erasing a person".

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;

use crate::domain::erasure::{id_hash, pseudonym};
use crate::store::error::StoreError;
use crate::store::locks::{LockSet, catalog_exclusive_sql};
use crate::store::pool::{BEGIN_BATCH, Store, Tx};

/// A person may have thousands of invoices; only this person's events wait for it.
const MORE_TIME: &str = "set local statement_timeout = '60s'; set local lock_timeout = '5s'; set local enable_seqscan = on; \
    set local enable_hashjoin = on; set local enable_sort = on";

/// A Stripe object without what is personal: see [`crate::domain::erasure::reduce`]. The evidence of erased users ($2) goes too.
macro_rules! redact_objects {
    ($which:literal) => {
        concat!(
            "update billsync.provider_objects o set fact = r.fact, contenders = null, winner = o.winner - 'previous_attributes', \
                evidence_created_at = case when r.fact ? 'clerk_user_id' then o.evidence_created_at end, \
                object = case when o.object is not null then jsonb_build_object('id', o.object_id, 'object', o.object_type, \
                    'erased', true) || case when r.fact is null then '{}' else jsonb_build_object('fact', r.fact) end end \
            from (select i.provider, i.account, i.object_id, \
                (case when i.fact ? 'card' then jsonb_set(i.fact, '{card}', '{}') else i.fact end) - 'email' - 'address' \
                    - case when i.fact ->> 'clerk_user_id' = any($2) then 'clerk_user_id' else '' end as fact \
                from billsync.provider_objects i where i.provider = 'stripe' and ",
            $which,
            ") r where o.provider = r.provider and o.account = r.account and o.object_id = r.object_id"
        )
    };
}

pub(super) mod mentions;

pub use mentions::{Mentions, PayloadKey};

statements! {
    INSERT_ERASURES = "\
        insert into billsync.erasures (id_hash, kind, erased_at) \
        select x.id_hash, x.kind, $3 from unnest($1::text[], $2::text[]) as x(id_hash, kind) on conflict (id_hash) do nothing";

    DELETE_ERASURES = "delete from billsync.erasures where id_hash = any($1) and kind = 'customer'";

    IS_ERASED = "select exists (select from billsync.erasures where id_hash = $1)";

    /// What is known of a Clerk user ($1): for whoever has to confirm.
    FIND_PERSON = "\
        select u.email, u.full_name, u.user_id is not null as has_rows, \
            array(select owner_id from billsync.owners where clerk_user_id = $1 order by 1) as customers, \
            (select count(*) from billsync.provider_objects where owner_id = $1) as objects, \
            (select count(*) from billsync.webhook_events where owner_id = $1) as events, \
            array(select o.object_id from billsync.owners w join billsync.provider_objects o on o.owner_id = w.owner_id \
                where w.clerk_user_id = $1 and o.object_type = 'subscription' and o.deleted_at is null \
                  and o.fact ->> 'status' not in ('canceled', 'incomplete_expired') order by 1) as live_subscriptions \
        from (select 1) one left join public.users u on u.user_id = $1";

    /// The customers of a Clerk user ($1): those linked, and those that nobody is linked to and that have an address of
    /// this user's ($2) and of no other's.
    LIST_CUSTOMERS_TO_ERASE = "\
        select owner_id from billsync.owners where clerk_user_id = $1 \
        union select c.owner_id from billsync.owners c \
            where c.emails && $2 and c.clerk_user_id is null and c.owner_id not like 'user\\_%' \
              and not exists (select from billsync.owners v \
                where v.owner_id like 'user\\_%' and v.owner_id <> $1 and v.emails && c.emails)";

    /// Addresses and telephone numbers of a Clerk user, in lower case.
    LIST_ADDRESSES = "\
        select distinct lower(a.address) from ( \
            select u.email as address from public.users u where u.user_id = $1 \
            union all select jsonb_array_elements_text(case when jsonb_typeof(o.fact -> 'verified_emails') = 'array' \
                    then o.fact -> 'verified_emails' else '[]' end) \
                from billsync.provider_objects o where o.provider = 'clerk' and o.account = '' and o.object_id = $1 \
            union all select o.fact ->> 'email' from billsync.provider_objects o \
                where o.provider in ('clerk', 'import') and o.account = '' and o.object_id = $1 \
            union all select coalesce(e ->> 'email_address', e ->> 'phone_number') from billsync.provider_objects o \
                cross join lateral jsonb_array_elements(case when jsonb_typeof(o.object -> 'email_addresses') = 'array' \
                        then o.object -> 'email_addresses' else '[]' end \
                    || case when jsonb_typeof(o.object -> 'phone_numbers') = 'array' then o.object -> 'phone_numbers' \
                        else '[]' end) e \
                where o.provider = 'clerk' and o.account = '' and o.object_id = $1 and jsonb_typeof(o.object) = 'object' \
        ) a where length(a.address) >= 5";

    DELETE_OBJECTS_OF_USER = "\
        delete from billsync.provider_objects o where o.provider in ('clerk', 'import') and (o.owner_id = $1 or o.object_id = $1)";

    REDACT_OBJECTS_OF_CUSTOMERS = redact_objects!("i.owner_id = any($1)");

    DELETE_PAYLOADS_OF_OWNERS = "\
        delete from billsync.webhook_payloads p using billsync.webhook_events e \
        where e.owner_id = any($1) and p.received_at = e.received_at and p.provider = e.provider and p.event_id = e.event_id";

    /// $2 stands in the place of the Clerk id.
    ANONYMISE_LEDGER_OF_USER = "\
        update billsync.webhook_events set owner_id = null, event_id = replace(event_id, $1, $2), \
            object_id = case when object_id = $1 then $2 else object_id end, \
            reason = case when reason is not null then 'erased' end \
        where owner_id = $1";

    /// The reason of a customer's event may name a user ($2), that of an operator's anything.
    ANONYMISE_LEDGER_OF_CUSTOMERS = "\
        update billsync.webhook_events set reason = 'erased' \
        where owner_id = any($1) and (event_type like 'operator.%' and reason is not null \
            or exists (select from unnest($2::text[]) u where position(u in reason) > 0))";

    FORGET_OWNERS = "\
        update billsync.owners set emails = '{}', \
            clerk_user_id = case when clerk_user_id = any($2) then null else clerk_user_id end, \
            linked_by = case when clerk_user_id = any($2) then null else linked_by end \
        where owner_id = any($1)";

    DELETE_OWNER = "delete from billsync.owners where owner_id = $1";

    DELETE_LINKS_TO_USER = "delete from billsync.operator_links where clerk_user_id = $1";

    DELETE_REFETCHES = "\
        delete from billsync.refetch_queue q using billsync.provider_objects o \
        where o.provider = 'stripe' and o.owner_id = any($1) and q.object_id = o.object_id";

    /// What goes with the user's row by cascade.
    COUNT_APPLICATION_ROWS = "\
        select (select count(*) from public.campaigns where user_id = $1) \
            + (select count(*) from public.scraping_jobs where user_id = $1) \
            + (select count(*) from public.scraping_results r join public.scraping_jobs j on j.id = r.job_id where j.user_id = $1) \
            + (select count(*) from public.creator_lists l join public.users u on u.id = l.user_id where u.user_id = $1) \
            + (select count(*) from public.list_items i join public.creator_lists l on l.id = i.list_id \
                join public.users u on u.id = l.user_id where u.user_id = $1)";

    /// Whoever changes a campaign locks it, then the meter, then the user; deleting the user locks these in another order.
    LOCK_CAMPAIGNS_OF_USER = "select 1 from public.campaigns where user_id = $1 order by id for update";

    LOCK_USAGE_OF_USER = "\
        select 1 from public.users u join public.user_usage g on g.user_id = u.id where u.user_id = $1 for update of g";

    DELETE_USER = "delete from public.users where user_id = $1";

    RECORD_ERASURE = "\
        insert into billsync.webhook_events (provider, event_id, event_type, object_id, occurred_at, received_at, source, \
            outcome, reason) values ('clerk', $1, 'user.erase', $2, $3, $3, 'job', 'applied', 'erased')";
}

/// What is known of somebody.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Person {
    pub email: Option<String>,
    pub full_name: Option<String>,
    pub has_rows: bool,
    /// The Stripe customers linked to the user.
    pub customers: Vec<String>,
    pub objects: i64,
    pub events: i64,
    /// Stripe subscriptions that go on.
    pub live_subscriptions: Vec<String>,
}

impl Person {
    /// Whether nothing is.
    pub fn is_unknown(&self) -> bool {
        !self.has_rows && self.customers.is_empty() && self.objects == 0 && self.events == 0
    }
}

/// How much was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erasure {
    /// Stripe customers that were the person's.
    pub customers: Vec<String>,
    /// 1 when the user had rows.
    pub users: u64,
    /// The application's own rows that went with it: campaigns, jobs, results, lists and their items.
    pub application_rows: u64,
    /// Objects of Clerk's, and an import, deleted.
    pub objects_deleted: u64,
    /// Objects of Stripe's, reduced to their billing state.
    pub objects_reduced: u64,
    /// Payloads with the effects beside them, deleted.
    pub payloads_deleted: u64,
    /// Rows of the ledger that stay, without the Clerk id.
    pub ledger_rows_anonymised: u64,
    /// Mentions in payloads and objects of others, replaced.
    pub mentions_replaced: u64,
}

/// What one try of an erasure came to.
#[derive(Clone, Debug)]
pub enum ErasureAttempt {
    Done(Erasure),
    /// These customers belong to the person too and have to be locked first.
    Widen(BTreeSet<String>),
}

/// Remembers customers as erased and takes out what was kept of them until now. `users` are the erased users at hand.
pub async fn keep_customers_erased(
    tx: &mut Tx,
    customers: &[&str],
    users: &[&str],
    now: DateTime<Utc>,
) -> Result<Erasure, StoreError> {
    let hashes: Vec<String> = customers.iter().map(|id| id_hash(id)).collect();
    let kinds = vec!["customer"; customers.len()];
    run(tx.query(INSERT_ERASURES).bind(hashes).bind(kinds).bind(now), tx).await?;
    run(tx.query(DELETE_REFETCHES).bind(customers.to_vec()), tx).await?;
    let erasure = Erasure {
        customers: customers.iter().map(|id| (*id).to_owned()).collect(),
        objects_reduced: run(tx.query(REDACT_OBJECTS_OF_CUSTOMERS).bind(customers.to_vec()).bind(users.to_vec()), tx).await?,
        payloads_deleted: run(tx.query(DELETE_PAYLOADS_OF_OWNERS).bind(customers.to_vec()), tx).await?,
        ledger_rows_anonymised: run(tx.query(ANONYMISE_LEDGER_OF_CUSTOMERS).bind(customers.to_vec()).bind(users.to_vec()), tx)
            .await?,
        ..Erasure::default()
    };
    run(tx.query(FORGET_OWNERS).bind(customers.to_vec()).bind(users.to_vec()), tx).await?;
    Ok(erasure)
}

/// Forgets that customers were erased: they belong to somebody else.
pub async fn lift_erasures(tx: &mut Tx, customers: &[&str]) -> Result<(), StoreError> {
    let hashes: Vec<String> = customers.iter().map(|id| id_hash(id)).collect();
    run(tx.query(DELETE_ERASURES).bind(hashes), tx).await.map(|_lifted| ())
}

type Statement = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

async fn run(statement: Statement, tx: &mut Tx) -> Result<u64, StoreError> {
    Ok(statement.execute(tx.connection()?).await?.rows_affected())
}

impl Store {
    /// What is known of a Clerk user.
    pub async fn find_person(&self, clerk_id: &str) -> Result<Person, StoreError> {
        let mut tx = self.begin().await?;
        let person = tx.query_as::<Person>(FIND_PERSON).bind(clerk_id.to_owned()).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(person)
    }

    /// Whether a Clerk user was erased.
    pub async fn is_erased(&self, clerk_id: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let (erased,): (bool,) = tx.query_as(IS_ERASED).bind(id_hash(clerk_id)).fetch_one(tx.connection()?).await?;
        tx.commit().await?;
        Ok(erased)
    }

    /// The addresses and telephone numbers by which others' events could name a Clerk user.
    pub async fn list_addresses(&self, clerk_id: &str) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(LIST_ADDRESSES).bind(clerk_id.to_owned());
        let rows = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(|(address,)| address).collect())
    }

    /// The Stripe customers that are erased with a Clerk user who has these addresses.
    pub async fn list_customers_to_erase(&self, clerk_id: &str, addresses: &[String]) -> Result<BTreeSet<String>, StoreError> {
        let mut tx = self.begin().await?;
        let customers = customers_to_erase(&mut tx, clerk_id, addresses).await?;
        tx.commit().await?;
        Ok(customers)
    }

    /// Erases a person and the customers that are theirs, in one transaction under the locks of a batch. `mentions` were found
    /// elsewhere.
    pub async fn erase(
        &self,
        clerk_id: &str,
        customers: &BTreeSet<String>,
        addresses: &[String],
        mentions: &Mentions,
        now: DateTime<Utc>,
    ) -> Result<ErasureAttempt, StoreError> {
        let mut locks = LockSet::default();
        customers.iter().for_each(|customer| locks.add_object(customer));
        locks.add_clerk_id(clerk_id);
        let mut tx = self.begin_with(&format!("{BEGIN_BATCH}; {MORE_TIME}; {}", locks.first_sql())).await?;
        match erase_locked(&mut tx, clerk_id, customers, addresses, mentions, now).await {
            Ok(ErasureAttempt::Done(erasure)) => {
                tx.commit().await?;
                Ok(ErasureAttempt::Done(erasure))
            }
            Ok(widen) => {
                tx.rollback().await;
                Ok(widen)
            }
            Err(error) => {
                tx.roll_back_after(&error).await;
                Err(error)
            }
        }
    }

    /// Waits for the batches in work: those that begin later see what is committed already, such as an erasure.
    pub async fn let_batches_end(&self) -> Result<(), StoreError> {
        let begin = "begin; set local statement_timeout = '30s'; set local lock_timeout = '20s'";
        self.begin_with(&format!("{begin}; {}", catalog_exclusive_sql())).await?.commit().await
    }

    /// Erases mentions that an event brought while the person was being erased. Returns how many.
    pub async fn erase_mentions(&self, clerk_id: &str, mentions: &Mentions) -> Result<u64, StoreError> {
        let mut tx = self.begin_with(&format!("begin; {MORE_TIME}")).await?;
        let (deleted, reduced, replaced) = mentions.erase(&mut tx, clerk_id).await?;
        tx.commit().await?;
        Ok(deleted + reduced + replaced)
    }
}

async fn customers_to_erase(tx: &mut Tx, clerk_id: &str, addresses: &[String]) -> Result<BTreeSet<String>, StoreError> {
    let query = tx.query_as::<(String,)>(LIST_CUSTOMERS_TO_ERASE).bind(clerk_id.to_owned()).bind(addresses.to_vec());
    Ok(query.fetch_all(tx.connection()?).await?.into_iter().map(|(id,)| id).collect())
}

async fn erase_locked(
    tx: &mut Tx,
    clerk_id: &str,
    customers: &BTreeSet<String>,
    addresses: &[String],
    mentions: &Mentions,
    now: DateTime<Utc>,
) -> Result<ErasureAttempt, StoreError> {
    let current = customers_to_erase(tx, clerk_id, addresses).await?;
    if !current.is_subset(customers) {
        return Ok(ErasureAttempt::Widen(current));
    }
    let (id, other) = (clerk_id.to_owned(), pseudonym(clerk_id));
    let current: Vec<&str> = current.iter().map(String::as_str).collect();
    run(tx.query(INSERT_ERASURES).bind(vec![id_hash(clerk_id)]).bind(vec!["user"]).bind(now), tx).await?;
    let (application_rows,): (i64,) = tx.query_as(COUNT_APPLICATION_ROWS).bind(id.clone()).fetch_one(tx.connection()?).await?;
    run(tx.query(LOCK_CAMPAIGNS_OF_USER).bind(id.clone()), tx).await?;
    run(tx.query(LOCK_USAGE_OF_USER).bind(id.clone()), tx).await?;
    let mut erasure = Erasure {
        application_rows: u64::try_from(application_rows).unwrap_or_default(),
        users: run(tx.query(DELETE_USER).bind(id.clone()), tx).await?,
        ..keep_customers_erased(tx, &current, &[clerk_id], now).await?
    };
    let (deleted, reduced, replaced) = mentions.erase(tx, clerk_id).await?;
    erasure.payloads_deleted += deleted + run(tx.query(DELETE_PAYLOADS_OF_OWNERS).bind(vec![id.clone()]), tx).await?;
    erasure.objects_reduced += reduced;
    erasure.mentions_replaced = replaced;
    erasure.objects_deleted = run(tx.query(DELETE_OBJECTS_OF_USER).bind(id.clone()), tx).await?;
    run(tx.query(DELETE_OWNER).bind(id.clone()), tx).await?;
    run(tx.query(DELETE_LINKS_TO_USER).bind(id.clone()), tx).await?;
    erasure.ledger_rows_anonymised += run(tx.query(ANONYMISE_LEDGER_OF_USER).bind(id).bind(other.clone()), tx).await?;
    let event_id = format!("job_erase_{}", uuid::Uuid::new_v4());
    run(tx.query(RECORD_ERASURE).bind(event_id).bind(other).bind(now), tx).await?;
    Ok(ErasureAttempt::Done(erasure))
}
