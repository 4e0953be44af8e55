//! A user's five rows as one object, found by any of the ids that a user is known by, and lists of them. Nothing here locks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::billing::access::{Access, Standing};
use crate::store::error::StoreError;
use crate::store::instants::{At, MaybeAt, Place};
use crate::store::pool::{RowQuery, Store};
use crate::store::raw_json::RawJson;

/// What a profile is made of. Of a row that is missing, the columns that are never NULL have the table's defaults.
macro_rules! profile_columns {
    ($features:literal, $emails:literal) => {
        concat!(
            "u.id, u.user_id, u.email, u.full_name, u.business_name, u.brand_description, u.industry, u.onboarding_step, \
            u.is_admin, u.deleted_at, u.created_at, u.updated_at, \
            s.current_plan, s.intended_plan, coalesce(s.subscription_status, 'none') as subscription_status, \
            coalesce(s.trial_status, 'pending') as trial_status, s.trial_start_date, s.trial_end_date, \
            s.trial_conversion_date, s.subscription_cancel_date, s.subscription_renewal_date, s.billing_sync_status, \
            s.requested_plan, s.requested_at, s.next_change_at, \
            b.stripe_customer_id, b.stripe_subscription_id, b.payment_method_id, b.card_last_4, b.card_brand, \
            b.card_exp_month, b.card_exp_year, b.billing_address_city, b.billing_address_country, \
            b.billing_address_postal_code, \
            coalesce(g.plan_campaigns_limit, 0) as plan_campaigns_limit, \
            coalesce(g.plan_creators_limit, 0) as plan_creators_limit, ",
            $features,
            " as plan_features, \
            coalesce(g.usage_campaigns_current, 0) as usage_campaigns_current, \
            coalesce(g.usage_creators_current_month, 0) as usage_creators_current_month, \
            coalesce(g.enrichments_current_month, 0) as enrichments_current_month, \
            g.usage_reset_date, g.usage_anchor, g.usage_period_start, \
            d.signup_timestamp, ",
            $emails,
            " as email_schedule_status, d.last_webhook_event, d.last_webhook_timestamp "
        )
    };
    () => {
        profile_columns!("g.plan_features", "d.email_schedule_status")
    };
}
pub(super) use profile_columns;

macro_rules! profile {
    ($($large:literal),*) => {
        concat!(
            "select ",
            profile_columns!($($large),*),
            "from public.users u \
        left join public.user_subscriptions s on s.user_id = u.id \
        left join public.user_billing b on b.user_id = u.id \
        left join public.user_usage g on g.user_id = u.id \
        left join public.user_system_data d on d.user_id = u.id "
        )
    };
}

/// The Clerk ids that a Stripe customer ($1) stands for: by the link, or as the projection wrote it.
macro_rules! by_customer {
    ($parameter:literal) => {
        concat!(
            "array(select o.clerk_user_id from billsync.owners o \
            where o.owner_id = ",
            $parameter,
            " and o.clerk_user_id is not null \
            union all select t.user_id from public.user_billing c join public.users t on t.id = c.user_id \
            where c.stripe_customer_id = ",
            $parameter,
            ")"
        )
    };
}

/// The same of a Stripe subscription: its fact's customer, or as the projection wrote it.
macro_rules! by_subscription {
    ($parameter:literal) => {
        concat!(
            "array(select o.clerk_user_id from billsync.provider_objects f \
            join billsync.owners o on o.owner_id = f.owner_id \
            where f.provider = 'stripe' and f.account = '' and f.object_id = ",
            $parameter,
            " \
              and f.object_type = 'subscription' and o.clerk_user_id is not null \
            union all select t.user_id from public.user_billing c join public.users t on t.id = c.user_id \
            where c.stripe_subscription_id = ",
            $parameter,
            ")"
        )
    };
}

statements! {
    FIND_USER_PROFILE = concat!(profile!(), "where u.user_id = $1");

    FIND_USER_PROFILES = concat!(profile!(), "where u.user_id = any($1)");

    /// An address may have signed up again: the newest undeleted user first.
    FIND_USER_BY_EMAIL = concat!(profile!(), "where lower(u.email) = lower($1) \
        order by u.deleted_at is not null, u.created_at desc, u.id desc limit 1");

    FIND_USER_BY_CUSTOMER = concat!(profile!(), "where u.user_id = any(", by_customer!("$1"), ") \
        order by u.deleted_at is not null, u.created_at desc, u.id desc limit 1");

    FIND_USER_BY_SUBSCRIPTION = concat!(profile!(), "where u.user_id = any(", by_subscription!("$1"), ") \
        order by u.deleted_at is not null, u.created_at desc, u.id desc limit 1");

    /// Newest first. Every filter may be absent.
    LIST_USERS = concat!(
        profile!("case when $11 then g.plan_features end", "case when $12 then d.email_schedule_status end"), "\
        where ($1::text is null or lower(u.email) = lower($1)) \
          and ($2::text is null or u.user_id = any(", by_customer!("$2"), ")) \
          and ($3::text is null or u.user_id = any(", by_subscription!("$3"), ")) \
          and ($4::text is null or s.subscription_status = $4) \
          and ($5::text is null or s.current_plan = $5) \
          and ($6::timestamptz is null or u.created_at >= $6) \
          and ($7::timestamptz is null or u.created_at < $7) \
          and ($8::timestamptz is null or (u.created_at, u.id) < ($8, $9)) \
        order by u.created_at desc, u.id desc limit $10");
}

/// The five rows as one object, by the names of their columns; `id`, `created_at` and `updated_at` are those of `users`.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct UserProfile {
    pub id: Uuid,
    /// The Clerk id.
    #[schema(example = "user_2abc")]
    pub user_id: String,
    pub email: Option<String>,
    pub full_name: Option<String>,
    pub business_name: Option<String>,
    pub brand_description: Option<String>,
    pub industry: Option<String>,
    /// `pending`, `step-1`, `step-2` or `completed`.
    pub onboarding_step: String,
    pub is_admin: bool,
    #[sqlx(try_from = "MaybeAt")]
    pub deleted_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "At")]
    pub created_at: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    pub updated_at: DateTime<Utc>,
    pub current_plan: Option<String>,
    pub intended_plan: Option<String>,
    /// Stripe's status verbatim, or `none`.
    pub subscription_status: String,
    /// As of the last projection; see `effective_trial_status`.
    pub trial_status: String,
    #[sqlx(try_from = "MaybeAt")]
    pub trial_start_date: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub trial_end_date: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub trial_conversion_date: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub subscription_cancel_date: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub subscription_renewal_date: Option<DateTime<Utc>>,
    pub billing_sync_status: Option<String>,
    pub requested_plan: Option<String>,
    #[sqlx(try_from = "MaybeAt")]
    pub requested_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub next_change_at: Option<DateTime<Utc>>,
    pub stripe_customer_id: Option<String>,
    pub stripe_subscription_id: Option<String>,
    pub payment_method_id: Option<String>,
    pub card_last_4: Option<String>,
    pub card_brand: Option<String>,
    pub card_exp_month: Option<i32>,
    pub card_exp_year: Option<i32>,
    pub billing_address_city: Option<String>,
    pub billing_address_country: Option<String>,
    pub billing_address_postal_code: Option<String>,
    /// -1: unlimited.
    pub plan_campaigns_limit: i32,
    /// -1: unlimited.
    pub plan_creators_limit: i32,
    #[schema(value_type = serde_json::Value)]
    pub plan_features: Option<RawJson>,
    pub usage_campaigns_current: i32,
    pub usage_creators_current_month: i32,
    pub enrichments_current_month: i32,
    #[sqlx(try_from = "MaybeAt")]
    pub usage_reset_date: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub usage_anchor: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub usage_period_start: Option<DateTime<Utc>>,
    #[sqlx(try_from = "MaybeAt")]
    pub signup_timestamp: Option<DateTime<Utc>>,
    /// The mails that are due or were sent, keyed `kind:subject`.
    #[schema(value_type = serde_json::Value)]
    pub email_schedule_status: Option<RawJson>,
    pub last_webhook_event: Option<String>,
    #[sqlx(try_from = "MaybeAt")]
    pub last_webhook_timestamp: Option<DateTime<Utc>>,
}

impl UserProfile {
    fn standing(&self) -> Standing<'_> {
        Standing {
            current_plan: self.current_plan.as_deref(),
            subscription_status: &self.subscription_status,
            trial_status: &self.trial_status,
            trial_end_date: self.trial_end_date,
            subscription_cancel_date: self.subscription_cancel_date,
            is_deleted: self.deleted_at.is_some(),
        }
    }

    /// Whether a paid plan is in force at `now`.
    pub fn access(&self, now: DateTime<Utc>) -> Access {
        self.standing().access(now)
    }

    /// The trial's status at `now`.
    pub fn effective_trial_status(&self, now: DateTime<Utc>) -> String {
        self.standing().effective_trial_status(now).to_owned()
    }
}

/// Which users to list.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// In any case.
    pub email: Option<String>,
    pub stripe_customer_id: Option<String>,
    pub stripe_subscription_id: Option<String>,
    pub subscription_status: Option<String>,
    pub current_plan: Option<String>,
    pub created_from: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    /// (created_at, id) of the last one seen.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    pub limit: i64,
    pub with_plan_features: bool,
    pub with_email_schedule: bool,
}

impl Store {
    /// A user by the Clerk id. Those who ask at the same moment share a statement.
    pub async fn get_user_profile(&self, clerk_id: &str) -> Result<Option<UserProfile>, StoreError> {
        if let Some(gatherings) = self.gatherings() {
            let store = self.clone();
            let work = move |clerk_ids: Vec<String>| {
                let store = store.clone();
                async move { store.find_profiles(&clerk_ids).await }
            };
            if let Ok(Some(found)) = gatherings.profiles.ask(clerk_id.to_owned(), work).await {
                return Ok(found);
            }
        }
        self.find_one(FIND_USER_PROFILE, clerk_id).await
    }

    /// A user by address, in any case; of several the newest that is not deleted.
    pub async fn get_user_by_email(&self, email: &str) -> Result<Option<UserProfile>, StoreError> {
        self.find_one(FIND_USER_BY_EMAIL, email).await
    }

    /// The user whom a Stripe customer belongs to.
    pub async fn get_user_by_stripe_customer_id(&self, customer_id: &str) -> Result<Option<UserProfile>, StoreError> {
        self.find_one(FIND_USER_BY_CUSTOMER, customer_id).await
    }

    /// The user whose customer has that Stripe subscription, be it the one that counts or an older one.
    pub async fn get_user_by_stripe_subscription_id(&self, subscription_id: &str) -> Result<Option<UserProfile>, StoreError> {
        self.find_one(FIND_USER_BY_SUBSCRIPTION, subscription_id).await
    }

    /// Users that pass the filter, newest first.
    pub async fn list_users(&self, filter: &UserFilter) -> Result<Vec<UserProfile>, StoreError> {
        let (after_at, after_id) = filter.after.unzip();
        let bind = |query: RowQuery<UserProfile>| {
            query
                .bind(filter.email.clone())
                .bind(filter.stripe_customer_id.clone())
                .bind(filter.stripe_subscription_id.clone())
                .bind(filter.subscription_status.clone())
                .bind(filter.current_plan.clone())
                .bind(filter.created_from)
                .bind(filter.created_before)
                .bind(after_at.map(Place::Before))
                .bind(after_id)
                .bind(filter.limit)
                .bind(filter.with_plan_features)
                .bind(filter.with_email_schedule)
        };
        self.read_planned(LIST_USERS, bind).await
    }

    /// In the order of the ids. A failure may be due to one of them: then each has to be asked for by itself.
    async fn find_profiles(&self, clerk_ids: &[String]) -> Vec<Option<Option<UserProfile>>> {
        let Ok(rows) = self.read(FIND_USER_PROFILES, |query| query.bind(clerk_ids.to_vec())).await else {
            return vec![None; clerk_ids.len()];
        };
        let found: HashMap<String, UserProfile> =
            rows.into_iter().map(|profile: UserProfile| (profile.user_id.clone(), profile)).collect();
        clerk_ids.iter().map(|clerk_id| Some(found.get(clerk_id).cloned())).collect()
    }

    async fn find_one(&self, sql: &'static str, key: &str) -> Result<Option<UserProfile>, StoreError> {
        Ok(self.read(sql, |query| query.bind(key.to_owned())).await?.pop())
    }
}
