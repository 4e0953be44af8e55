//! What the application writes into a user's rows: its own columns, each in its table. Columns of the projection are not
//! among them, so that no request can name one.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::store::error::StoreError;
use crate::store::pool::{Store, Tx};
use crate::store::users::new_id;

statements! {
    /// One pair of parameters a column: whether it is set, and to what. NULL clears; columns that cannot be NULL get their
    /// default.
    WRITE_USER = "\
        update public.users set \
            business_name = case when $2 then $3 else business_name end, \
            brand_description = case when $4 then $5 else brand_description end, \
            industry = case when $6 then $7 else industry end, \
            onboarding_step = case when $8 then coalesce($9, 'pending') else onboarding_step end, \
            is_admin = case when $10 then coalesce($11, false) else is_admin end \
        where user_id = $1";

    WRITE_REQUEST = "\
        update public.user_subscriptions s set \
            requested_plan = case when $2 then $3 else s.requested_plan end, \
            requested_at = case when $4 then $5 else s.requested_at end \
        from public.users u where u.user_id = $1 and s.user_id = u.id";

    /// Marks entries that exist; their other fields are the projection's. All of them or none.
    MARK_EMAILS = "\
        update public.user_system_data d set email_schedule_status = d.email_schedule_status || ( \
            select jsonb_object_agg(m.key, (d.email_schedule_status -> m.key) || jsonb_build_object('sent_at', m.value)) \
            from jsonb_each($2::text::jsonb) m) \
        from public.users u where u.user_id = $1 and d.user_id = u.id \
          and d.email_schedule_status ?& array(select jsonb_object_keys($2::text::jsonb))";

    FIND_EMAIL_KEYS = "\
        select k.key from public.users u join public.user_system_data d on d.user_id = u.id, \
            jsonb_object_keys(d.email_schedule_status) as k(key) where u.user_id = $1";

    /// The rows that are missing, with their defaults: the projection fills them in the same transaction.
    ENSURE_ROWS = "\
        with made as ( \
            insert into public.users (id, user_id, created_at) select ($2::uuid[])[1], $1, $3 \
            where not exists (select from billsync.erasures where id_hash = encode(sha256(convert_to($1, 'UTF8')), 'hex')) \
            on conflict (user_id) do nothing returning id \
        ), owner as ( \
            select id from made union all select id from public.users where user_id = $1 \
        ), s as ( \
            insert into public.user_subscriptions (id, user_id) select ($2::uuid[])[2], id from owner on conflict (user_id) do nothing \
        ), b as ( \
            insert into public.user_billing (id, user_id) select ($2::uuid[])[3], id from owner on conflict (user_id) do nothing \
        ), g as ( \
            insert into public.user_usage (id, user_id) select ($2::uuid[])[4], id from owner on conflict (user_id) do nothing \
        ), d as ( \
            insert into public.user_system_data (id, user_id) select ($2::uuid[])[5], id from owner on conflict (user_id) do nothing \
        ) \
        select exists (select from made)";

    USER_EXISTS = "select 1 from public.users where user_id = $1";
}

/// What becomes of a column: `None` keeps it, `Some(None)` clears it.
pub type Change<T> = Option<Option<T>>;

/// The columns that the application may write, and what it writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileUpdate {
    pub business_name: Change<String>,
    pub brand_description: Change<String>,
    pub industry: Change<String>,
    /// Cleared: `pending`.
    pub onboarding_step: Change<String>,
    /// Cleared: false.
    pub is_admin: Change<bool>,
    pub requested_plan: Change<String>,
    pub requested_at: Change<DateTime<Utc>>,
    /// Entries of `email_schedule_status`, and when their mail was sent.
    pub sent_emails: Vec<(String, Option<DateTime<Utc>>)>,
}

impl ProfileUpdate {
    /// Whether a projected column may follow from it: then it is written under the locks of the projection.
    pub fn concerns_projection(&self) -> bool {
        self.requested_plan.is_some() || self.requested_at.is_some()
    }

    fn concerns_user(&self) -> bool {
        self.business_name.is_some()
            || self.brand_description.is_some()
            || self.industry.is_some()
            || self.onboarding_step.is_some()
            || self.is_admin.is_some()
    }
}

/// What became of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Updated {
    Done,
    UnknownUser,
    /// No mail of that key is scheduled; nothing was written.
    UnknownEmail(String),
}

impl Store {
    /// Writes columns that the projection does not read, each into its table, in one transaction. Those that it does read
    /// are for `ingest::transaction::update_user`.
    pub async fn write_profile(&self, clerk_id: &str, update: &ProfileUpdate) -> Result<Updated, StoreError> {
        let mut tx = self.begin().await?;
        match write(&mut tx, clerk_id, update).await {
            Ok(Updated::Done) => tx.commit().await.map(|()| Updated::Done),
            Ok(other) => {
                tx.rollback().await;
                Ok(other)
            }
            Err(error) => {
                tx.roll_back_after(&error).await;
                Err(error)
            }
        }
    }
}

/// Writes an update within a transaction, the tables in their fixed order.
pub async fn write(tx: &mut Tx, clerk_id: &str, update: &ProfileUpdate) -> Result<Updated, StoreError> {
    let known: Option<(i32,)> = tx.query_as(USER_EXISTS).bind(clerk_id.to_owned()).fetch_optional(tx.connection()?).await?;
    if known.is_none() {
        return Ok(Updated::UnknownUser);
    }
    if update.concerns_user() {
        let query = tx
            .query(WRITE_USER)
            .bind(clerk_id.to_owned())
            .bind(update.business_name.is_some())
            .bind(update.business_name.clone().flatten())
            .bind(update.brand_description.is_some())
            .bind(update.brand_description.clone().flatten())
            .bind(update.industry.is_some())
            .bind(update.industry.clone().flatten())
            .bind(update.onboarding_step.is_some())
            .bind(update.onboarding_step.clone().flatten())
            .bind(update.is_admin.is_some())
            .bind(update.is_admin.flatten());
        query.execute(tx.connection()?).await?;
    }
    if update.concerns_projection() {
        let query = tx
            .query(WRITE_REQUEST)
            .bind(clerk_id.to_owned())
            .bind(update.requested_plan.is_some())
            .bind(update.requested_plan.clone().flatten())
            .bind(update.requested_at.is_some())
            .bind(update.requested_at.flatten());
        query.execute(tx.connection()?).await?;
    }
    if update.sent_emails.is_empty() { Ok(Updated::Done) } else { mark_emails(tx, clerk_id, &update.sent_emails).await }
}

async fn mark_emails(tx: &mut Tx, clerk_id: &str, sent: &[(String, Option<DateTime<Utc>>)]) -> Result<Updated, StoreError> {
    let marks: serde_json::Map<String, Value> = sent.iter().map(|(key, at)| (key.clone(), serde_json::json!(at))).collect();
    let query = tx.query(MARK_EMAILS).bind(clerk_id.to_owned()).bind(Value::Object(marks).to_string());
    if query.execute(tx.connection()?).await?.rows_affected() > 0 {
        return Ok(Updated::Done);
    }
    let keys: Vec<(String,)> = tx.query_as(FIND_EMAIL_KEYS).bind(clerk_id.to_owned()).fetch_all(tx.connection()?).await?;
    let unknown = sent.iter().find(|(key, _)| !keys.iter().any(|(known,)| known == key));
    Ok(unknown.map_or(Updated::Done, |(key, _)| Updated::UnknownEmail(key.clone())))
}

/// Makes those of a user's five rows that are missing; true when `users` had none. The caller holds the user's lock and
/// projects in the same transaction.
pub async fn ensure_rows(tx: &mut Tx, clerk_id: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let ids: Vec<Uuid> = (0..5).map(|_| new_id(now)).collect();
    let query = tx.query_as::<(bool,)>(ENSURE_ROWS).bind(clerk_id.to_owned()).bind(ids).bind(now);
    Ok(query.fetch_one(tx.connection()?).await?.0)
}
