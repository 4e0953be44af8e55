//! One row by a key, a user's numbers, and the meters.

use futures_util::FutureExt;

use crate::cli::bench::queries::cases::{Case, Kind};
use crate::store::{Meter, StoreError};

/// Most ended periods that a user's usage shows.
const PERIODS: i64 = 24;

/// By key, then the numbers, then the meters.
pub fn all() -> Vec<Case> {
    keys().into_iter().chain(numbers()).chain(meters()).collect()
}

fn found<T>(row: Result<Option<T>, StoreError>) -> Result<usize, StoreError> {
    row.map(|row| usize::from(row.is_some()))
}

fn keys() -> Vec<Case> {
    const PROFILE: &str = "GET /v1/users/{clerk_id}";
    vec![
        Case::new(Kind::Row, "profile: by Clerk id", PROFILE, |store, subjects, n| {
            async move { found(store.get_user_profile(&subjects.user(n)).await) }.boxed()
        }),
        Case::new(Kind::Row, "profile: of nobody", PROFILE, |store, _, n| {
            async move { found(store.get_user_profile(&format!("user_nobody_{n}")).await) }.boxed()
        }),
        Case::new(Kind::Row, "profile: by e-mail", "getUserByEmail", |store, subjects, n| {
            async move { found(store.get_user_by_email(&subjects.email(n)).await) }.boxed()
        }),
        Case::new(Kind::Row, "profile: by customer", "getUserByStripeCustomerId", |store, subjects, n| {
            async move { found(store.get_user_by_stripe_customer_id(&subjects.customer(n)).await) }.boxed()
        }),
        Case::new(Kind::Row, "profile: by subscription", "getUserByStripeSubscriptionId", |store, subjects, n| {
            async move { found(store.get_user_by_stripe_subscription_id(&subjects.subscription(n)).await) }.boxed()
        }),
        Case::new(Kind::Row, "campaigns: by id", "GET /v1/campaigns/{id}", |store, subjects, n| {
            async move { found(store.find_campaign(subjects.campaign(n), None).await) }.boxed()
        }),
        Case::new(Kind::Row, "jobs: by id", "GET /v1/jobs/{id}", |store, subjects, n| {
            async move { found(store.find_job(subjects.job(n), None, false).await) }.boxed()
        }),
        Case::new(Kind::Row, "jobs: by id, with results", "GET /v1/jobs/{id}?fields=results", |store, subjects, n| {
            async move { found(store.find_job(subjects.job(n), None, true).await) }.boxed()
        }),
        Case::new(Kind::Page, "jobs: the one with most results", "GET /v1/jobs/{id}?fields=results", |store, subjects, _| {
            async move { found(store.find_job(subjects.largest_job, None, true).await) }.boxed()
        }),
        Case::new(Kind::Row, "lists: by id", "GET /v1/lists/{id}", |store, subjects, n| {
            async move { found(store.find_creator_list(subjects.list(n), None).await) }.boxed()
        }),
        Case::new(Kind::Row, "events: by id", "GET /v1/events/{event_id}", |store, subjects, n| {
            async move { store.find_event(&subjects.event(n)).await.map(|found| found.len()) }.boxed()
        }),
    ]
}

fn numbers() -> Vec<Case> {
    const DASHBOARD: &str = "GET /v1/users/{clerk_id}/dashboard";
    const USAGE: &str = "GET /v1/users/{clerk_id}/usage";
    vec![
        Case::new(Kind::Dashboard, "dashboard", DASHBOARD, |store, subjects, n| {
            async move { found(store.find_dashboard(&subjects.user(n), subjects.at, subjects.month_start()).await) }.boxed()
        }),
        Case::new(Kind::Dashboard, "dashboard: of the largest user", DASHBOARD, |store, subjects, _| {
            async move { found(store.find_dashboard(&subjects.largest_user(), subjects.at, subjects.month_start()).await) }
                .boxed()
        }),
        Case::new(Kind::Row, "usage: meters", USAGE, |store, subjects, n| {
            async move { found(store.find_usage(&subjects.user(n)).await) }.boxed()
        }),
        Case::new(Kind::Row, "usage: ended periods", USAGE, |store, subjects, n| {
            async move { store.list_usage_periods(&subjects.user(n), PERIODS).await.map(|periods| periods.len()) }.boxed()
        }),
        Case::new(Kind::Row, "plans", "GET /v1/plans", |store, _, _| {
            async move { store.list_plans().await.map(|plans| plans.len()) }.boxed()
        }),
    ]
}

/// What is consumed is given back in the next run, so that a data set that is kept stays as it was made.
fn meters() -> Vec<Case> {
    const CONSUME: &str = "POST /v1/users/{clerk_id}/usage/{meter}/consume";
    let mut cases = vec![
        Case::new(Kind::Meter, "consume", CONSUME, |store, subjects, n| {
            let amount = if n % 2 == 0 { 1 } else { -1 };
            async move { store.consume(&subjects.payer_id(n / 2), Meter::Creators, amount, None, subjects.at).await.map(|_| 1) }
                .boxed()
        }),
        Case::new(Kind::Meter, "consume: with a key", CONSUME, |store, subjects, n| {
            async move {
                // Of an hour ago, so answered as it was then.
                let (user, key) = subjects.used_key(n);
                store.consume(&user, Meter::Creators, 1, Some(&key), subjects.at).await.map(|_| 1)
            }
            .boxed()
        }),
    ];
    for case in &mut cases {
        case.explain = Some(Box::new(|store, subjects, n| {
            async move { store.explain_consume(&subjects.payer_id(n), Meter::Creators, subjects.at).await }.boxed()
        }));
    }
    cases
}
