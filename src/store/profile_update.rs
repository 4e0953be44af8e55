//! What the application writes into a user's rows: its own columns, each in its table. Columns of the projection are not
//! among them, so that no request can name one.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

use crate::store::error::StoreError;
use crate::store::pool::{Store, Tx};
use crate::store::profiles::{UserProfile, profile_columns};
use crate::store::users::new_id;

/// Behind a transaction pooler.
const BEGIN_UPDATE: &str = "begin; set local statement_timeout = '10s'; set local lock_timeout = '2s'";

/// The columns that may be set, by a pair of parameters each: whether it is set, and to what. NULL clears; columns that cannot
/// be NULL get their default. $16: the mails that were sent, as JSON of key to instant.
///
/// The user's row is locked first, so that an update and whoever else changes or erases the user follow one another. Then the
/// schedule of mails, whose entries must all be there, or nothing is written. What is answered of a table that is not written
/// is what stood there when the statement began.
macro_rules! update {
    () => {
        concat!(
            "\
        with owner as ( \
            select u.* from public.users u where u.user_id = $1 for no key update \
        ), mails as ( \
            select d.id, d.email_schedule_status as schedule from owner o join public.user_system_data d on d.user_id = o.id \
            where $16::text is not null for no key update of d \
        ), sent as ( \
            select m.key, m.value from jsonb_each($16::text::jsonb) m \
        ), unknown as ( \
            select s.key from sent s where not exists (select from mails m where m.schedule ? s.key) \
        ), target as ( \
            select o.id from owner o where not exists (select from unknown) \
        ), users_written as ( \
            update public.users u set \
                business_name = case when $2 then $3 else u.business_name end, \
                brand_description = case when $4 then $5 else u.brand_description end, \
                industry = case when $6 then $7 else u.industry end, \
                onboarding_step = case when $8 then coalesce($9, 'pending') else u.onboarding_step end, \
                is_admin = case when $10 then coalesce($11, false) else u.is_admin end \
            from target t where u.id = t.id and ($2 or $4 or $6 or $8 or $10) returning u.* \
        ), subscriptions_written as ( \
            insert into public.user_subscriptions as s (id, user_id, requested_plan, requested_at) \
            select billsync.uuid_v7(), t.id, $13, $15 from target t where $12 or $14 \
            on conflict (user_id) do update set \
                requested_plan = case when $12 then excluded.requested_plan else s.requested_plan end, \
                requested_at = case when $14 then excluded.requested_at else s.requested_at end \
            returning s.* \
        ), billing_made as ( \
            insert into public.user_billing (id, user_id) select billsync.uuid_v7(), t.id from target t where $12 or $14 \
            on conflict (user_id) do nothing \
        ), usage_made as ( \
            insert into public.user_usage (id, user_id) select billsync.uuid_v7(), t.id from target t where $12 or $14 \
            on conflict (user_id) do nothing \
        ), system_data_made as ( \
            insert into public.user_system_data (id, user_id) select billsync.uuid_v7(), t.id from target t where $12 or $14 \
            on conflict (user_id) do nothing \
        ), system_data_written as ( \
            update public.user_system_data d set email_schedule_status = d.email_schedule_status || ( \
                select jsonb_object_agg(s.key, (d.email_schedule_status -> s.key) || jsonb_build_object('sent_at', s.value)) \
                from sent s) \
            from target t, mails m where d.id = m.id returning d.* \
        ) \
        select (select min(key collate \"C\") from unknown) as unknown_email, ",
            profile_columns!(),
            "from ( \
            select * from users_written union all select * from owner where not exists (select from users_written)) u \
        left join ( \
            select * from subscriptions_written union all \
            select c.* from owner o join public.user_subscriptions c on c.user_id = o.id \
            where not exists (select from subscriptions_written)) s on s.user_id = u.id \
        left join public.user_billing b on b.user_id = u.id \
        left join public.user_usage g on g.user_id = u.id \
        left join ( \
            select * from system_data_written union all \
            select c.* from owner o join public.user_system_data c on c.user_id = o.id \
            where not exists (select from system_data_written)) d on d.user_id = u.id"
        )
    };
}

statements! {
    UPDATE_PROFILE = update!();

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

    /// Whether a user has all five rows.
    HAS_ROWS = "\
        select exists (select from public.users u \
            join public.user_subscriptions s on s.user_id = u.id join public.user_billing b on b.user_id = u.id \
            join public.user_usage g on g.user_id = u.id join public.user_system_data d on d.user_id = u.id \
            where u.user_id = $1)";
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

    /// Key to instant, as JSON; `None` when no mail was sent.
    fn marks(&self) -> Option<String> {
        let marks = self.sent_emails.iter().map(|(key, at)| (key.clone(), serde_json::json!(at)));
        if self.sent_emails.is_empty() { None } else { Some(Value::Object(marks.collect()).to_string()) }
    }
}

/// What became of an update.
#[derive(Clone, Debug)]
pub enum Updated {
    /// The profile as it is now, but for what the projection makes of the update.
    Done(Box<UserProfile>),
    UnknownUser,
    /// No mail of that key is scheduled; nothing was written.
    UnknownEmail(String),
}

#[derive(FromRow)]
struct UpdatedRow {
    unknown_email: Option<String>,
    #[sqlx(flatten)]
    profile: UserProfile,
}

impl Store {
    /// Writes columns that the projection does not read, each into its table, in one statement, which commits by itself.
    /// Those that it does read are for `ingest::transaction::update_user`.
    pub async fn write_profile(&self, clerk_id: &str, update: &ProfileUpdate) -> Result<Updated, StoreError> {
        let mut tx = self.begin_single(BEGIN_UPDATE).await?;
        let updated = write(&mut tx, clerk_id, update).await;
        tx.end(updated).await
    }

    /// Whether a user has all five rows.
    pub async fn has_rows(&self, clerk_id: &str) -> Result<bool, StoreError> {
        let found: Vec<(bool,)> = self.read(HAS_ROWS, |query| query.bind(clerk_id.to_owned())).await?;
        Ok(found.into_iter().any(|(has_rows,)| has_rows))
    }
}

/// Writes an update within a transaction, in one statement; it writes all of it or nothing.
pub async fn write(tx: &mut Tx, clerk_id: &str, update: &ProfileUpdate) -> Result<Updated, StoreError> {
    let query = tx
        .query_as::<UpdatedRow>(UPDATE_PROFILE)
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
        .bind(update.is_admin.flatten())
        .bind(update.requested_plan.is_some())
        .bind(update.requested_plan.clone().flatten())
        .bind(update.requested_at.is_some())
        .bind(update.requested_at.flatten())
        .bind(update.marks());
    Ok(match query.fetch_optional(tx.connection()?).await? {
        None => Updated::UnknownUser,
        Some(UpdatedRow { unknown_email: Some(key), .. }) => Updated::UnknownEmail(key),
        Some(UpdatedRow { profile, .. }) => Updated::Done(Box::new(profile)),
    })
}

/// Makes those of a user's five rows that are missing; true when `users` had none. The caller holds the user's lock and
/// projects in the same transaction.
pub async fn ensure_rows(tx: &mut Tx, clerk_id: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let ids: Vec<Uuid> = (0..5).map(|_| new_id(now)).collect();
    let query = tx.query_as::<(bool,)>(ENSURE_ROWS).bind(clerk_id.to_owned()).bind(ids).bind(now);
    Ok(query.fetch_one(tx.connection()?).await?.0)
}
