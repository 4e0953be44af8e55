//! Pages of lists: the first and the last one, and each filter.

use futures_util::FutureExt;

use crate::cli::bench::queries::cases::{Case, Kind};
use crate::cli::bench::queries::subjects::Subjects;
use crate::domain::discovery::{CampaignStatus, JobStatus};
use crate::store::{CampaignFilter, CreatorListFilter, ItemFilter, JobFilter, LedgerFilter, UserFilter};

/// Rows that a page asks for: fifty, and one that tells whether there are more.
const PAGE: i64 = 51;

/// Every list of the API.
pub fn all() -> Vec<Case> {
    [users(), campaigns(), jobs(), results(), lists(), items(), ledger(), events_of_users()].into_iter().flatten().collect()
}

macro_rules! pages {
    ($name:ident, $filter:ident, $list:ident, $request:literal) => {
        fn $name(name: &'static str, filter: impl Fn(&Subjects, u32) -> $filter + Send + Sync + 'static) -> Case {
            Case::new(Kind::Page, name, $request, move |store, subjects, n| {
                let filter = $filter { limit: PAGE, ..filter(subjects, n) };
                async move { store.$list(&filter).await.map(|rows| rows.len()) }.boxed()
            })
        }
    };
}

pages!(user_page, UserFilter, list_users, "GET /v1/users");
pages!(campaign_page, CampaignFilter, list_campaigns, "GET /v1/campaigns");
pages!(job_page, JobFilter, list_jobs, "GET /v1/jobs");
pages!(list_page, CreatorListFilter, list_creator_lists, "GET /v1/lists");
pages!(event_page, LedgerFilter, list_ledger, "GET /v1/events");

fn users() -> Vec<Case> {
    let text = |text: &str| Some(text.to_owned());
    vec![
        user_page("users: newest", |_, _| UserFilter::default()),
        user_page("users: last page", |s, _| UserFilter { after: s.last_page(730, 1), ..UserFilter::default() }),
        user_page("users: by e-mail", |s, n| UserFilter { email: Some(s.email(n)), ..UserFilter::default() }),
        user_page("users: by customer", |s, n| UserFilter { stripe_customer_id: Some(s.customer(n)), ..UserFilter::default() }),
        user_page("users: by subscription", |s, n| UserFilter {
            stripe_subscription_id: Some(s.subscription(n)),
            ..UserFilter::default()
        }),
        user_page("users: active", move |_, _| UserFilter { subscription_status: text("active"), ..UserFilter::default() }),
        user_page("users: incomplete", move |_, _| UserFilter {
            subscription_status: text("incomplete"),
            ..UserFilter::default()
        }),
        user_page("users: of a status that nobody has", move |_, _| UserFilter {
            subscription_status: text("paused"),
            ..UserFilter::default()
        }),
        user_page("users: of a plan", move |_, _| UserFilter { current_plan: text("fame_flex"), ..UserFilter::default() }),
        user_page("users: of an old month", |s, _| {
            let (from, before) = s.old_month();
            UserFilter { created_from: from, created_before: before, ..UserFilter::default() }
        }),
        user_page("users: newest, all fields", |_, _| UserFilter {
            with_plan_features: true,
            with_email_schedule: true,
            ..UserFilter::default()
        }),
    ]
}

fn campaigns() -> Vec<Case> {
    vec![
        campaign_page("campaigns: newest", |_, _| CampaignFilter::default()),
        campaign_page("campaigns: last page", |s, _| CampaignFilter { after: s.last_page(365, 10), ..CampaignFilter::default() }),
        campaign_page("campaigns: of a user", |s, n| CampaignFilter { user_id: Some(s.user(n)), ..CampaignFilter::default() }),
        campaign_page("campaigns: of the largest user, last page", |s, _| CampaignFilter {
            user_id: Some(s.largest_user()),
            after: s.last_page_of_largest(365, 10),
            ..CampaignFilter::default()
        }),
        campaign_page("campaigns: archived of a user", |s, n| CampaignFilter {
            user_id: Some(s.user(n)),
            status: Some(CampaignStatus::Archived),
            ..CampaignFilter::default()
        }),
        campaign_page("campaigns: archived", |_, _| CampaignFilter {
            status: Some(CampaignStatus::Archived),
            ..CampaignFilter::default()
        }),
        campaign_page("campaigns: of a search type, last page", |s, _| CampaignFilter {
            search_type: Some("similar".to_owned()),
            after: s.last_page(365, 10),
            ..CampaignFilter::default()
        }),
        campaign_page("campaigns: of a search type that none has", |_, _| CampaignFilter {
            search_type: Some("unknown".to_owned()),
            ..CampaignFilter::default()
        }),
        campaign_page("campaigns: of an old month", |s, _| {
            let (from, before) = s.old_month();
            CampaignFilter { created_from: from, created_before: before, ..CampaignFilter::default() }
        }),
    ]
}

fn jobs() -> Vec<Case> {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>());
    vec![
        job_page("jobs: newest", |_, _| JobFilter::default()),
        job_page("jobs: newest, all fields", |_, _| JobFilter {
            with_keywords: true,
            with_search_params: true,
            with_results: true,
            ..JobFilter::default()
        }),
        job_page("jobs: last page", |s, _| JobFilter { after: s.last_page(365, 10), ..JobFilter::default() }),
        job_page("jobs: of a user", |s, n| JobFilter { user_id: Some(s.user(n)), ..JobFilter::default() }),
        job_page("jobs: of the largest user, last page", |s, _| JobFilter {
            user_id: Some(s.largest_user()),
            after: s.last_page_of_largest(365, 10),
            ..JobFilter::default()
        }),
        job_page("jobs: of a campaign", |s, n| JobFilter { campaign_id: Some(s.campaign(n)), ..JobFilter::default() }),
        job_page("jobs: pending", |_, _| JobFilter { status: Some(JobStatus::Pending), ..JobFilter::default() }),
        job_page("jobs: of a status that the largest user has none of", |s, _| JobFilter {
            user_id: Some(s.largest_user()),
            status: Some(JobStatus::Error),
            ..JobFilter::default()
        }),
        job_page("jobs: failed, last page", |s, _| JobFilter {
            status: Some(JobStatus::Error),
            after: s.last_page(365, 10),
            ..JobFilter::default()
        }),
        job_page("jobs: of a platform", |_, _| JobFilter { platform: Some("youtube".to_owned()), ..JobFilter::default() }),
        job_page("jobs: of an old month", |s, _| {
            let (from, before) = s.old_month();
            JobFilter { created_from: from, created_before: before, ..JobFilter::default() }
        }),
        job_page("jobs: by a frequent keyword", move |_, _| JobFilter { keywords: words(&["beauty"]), ..JobFilter::default() }),
        job_page("jobs: by a frequent keyword, last page", move |s, _| JobFilter {
            keywords: words(&["beauty"]),
            after: s.last_page(365, 10),
            ..JobFilter::default()
        }),
        job_page("jobs: by a rare keyword", |_, n| JobFilter {
            keywords: Some(vec![format!("keyword {}", n % 1000)]),
            ..JobFilter::default()
        }),
        job_page("jobs: by two keywords", move |_, _| JobFilter {
            keywords: words(&["beauty", "keyword 500"]),
            ..JobFilter::default()
        }),
        job_page("jobs: by a keyword that none has", move |_, _| JobFilter {
            keywords: words(&["nothing"]),
            ..JobFilter::default()
        }),
        job_page("jobs: by a keyword of a user", move |s, n| JobFilter {
            user_id: Some(s.user(n)),
            keywords: words(&["food"]),
            ..JobFilter::default()
        }),
        job_page("jobs: by a search parameter that all have", |_, _| JobFilter {
            search_param: Some("language".to_owned()),
            ..JobFilter::default()
        }),
        job_page("jobs: by a rare search parameter", |_, _| JobFilter {
            search_param: Some("hashtag".to_owned()),
            ..JobFilter::default()
        }),
        job_page("jobs: by a search parameter's value", |_, n| JobFilter {
            search_param: Some("hashtag".to_owned()),
            search_param_value: Some(format!("tag{}", (n * 100 + 9) % 500)),
            ..JobFilter::default()
        }),
        job_page("jobs: by a frequent search parameter's value", |_, n| JobFilter {
            search_param: Some("min_followers".to_owned()),
            search_param_value: Some((n % 50 * 1000).to_string()),
            ..JobFilter::default()
        }),
        job_page("jobs: by a value that none has", |_, _| JobFilter {
            search_param: Some("language".to_owned()),
            search_param_value: Some("xx".to_owned()),
            ..JobFilter::default()
        }),
    ]
}

fn results() -> Vec<Case> {
    const RESULTS: &str = "GET /v1/jobs/{id}/results";
    vec![
        Case::new(Kind::Page, "results: of a job", RESULTS, |store, s, n| {
            async move { store.list_results(s.job(n), None, PAGE, true).await.map(|rows| rows.len()) }.boxed()
        }),
        Case::new(Kind::Page, "results: of the job with most, last page", RESULTS, |store, s, _| {
            // In the order in which they came: the newest are last.
            let after = Some((s.lately(), uuid::Uuid::nil()));
            async move { store.list_results(s.largest_job, after, PAGE, false).await.map(|rows| rows.len()) }.boxed()
        }),
    ]
}

fn lists() -> Vec<Case> {
    vec![
        list_page("lists: newest", |_, _| CreatorListFilter::default()),
        list_page("lists: last page", |s, _| CreatorListFilter { after: s.last_page(365, 2), ..CreatorListFilter::default() }),
        list_page("lists: of a user", |s, n| CreatorListFilter { user_id: Some(s.user(n)), ..CreatorListFilter::default() }),
        list_page("lists: archived", |_, _| CreatorListFilter { is_archived: Some(true), ..CreatorListFilter::default() }),
    ]
}

fn items() -> Vec<Case> {
    const ITEMS: &str = "GET /v1/lists/{id}/items";
    let page = |name, filter: fn(&Subjects) -> ItemFilter| {
        Case::new(Kind::Page, name, ITEMS, move |store, s, _| {
            let filter = ItemFilter { limit: PAGE, ..filter(s) };
            async move { store.list_items(s.largest_list, &filter).await.map(|rows| rows.len()) }.boxed()
        })
    };
    vec![
        page("items: first of the largest list", |_| ItemFilter::default()),
        page("items: last page of the largest list", |s| ItemFilter {
            after: Some((s.last_position(), uuid::Uuid::nil())),
            ..ItemFilter::default()
        }),
        page("items: of a platform", |_| ItemFilter { platform: Some("youtube".to_owned()), ..ItemFilter::default() }),
        page("items: of a platform that none has", |_| ItemFilter { platform: Some("none".to_owned()), ..ItemFilter::default() }),
    ]
}

fn ledger() -> Vec<Case> {
    let text = |text: &str| Some(text.to_owned());
    let after = |s: &Subjects| s.last_page(90, 10).map(|(at, _)| (at, "~".to_owned()));
    vec![
        event_page("events: newest", |_, _| LedgerFilter::default()),
        event_page("events: newest, with effects", |_, _| LedgerFilter { with_effects: true, ..LedgerFilter::default() }),
        event_page("events: last page", move |s, _| LedgerFilter { after: after(s), ..LedgerFilter::default() }),
        event_page("events: of Clerk", move |_, _| LedgerFilter { provider: text("clerk"), ..LedgerFilter::default() }),
        event_page("events: of a frequent type, last page", move |s, _| LedgerFilter {
            event_type: text("invoice.paid"),
            after: after(s),
            ..LedgerFilter::default()
        }),
        event_page("events: of a rare type", move |_, _| LedgerFilter {
            event_type: text("customer.subscription.trial_will_end"),
            ..LedgerFilter::default()
        }),
        event_page("events: of a type that never came", move |_, _| LedgerFilter {
            event_type: text("coupon.created"),
            ..LedgerFilter::default()
        }),
        event_page("events: failed", move |_, _| LedgerFilter { outcome: text("failed"), ..LedgerFilter::default() }),
        event_page("events: unlinked", move |_, _| LedgerFilter { outcome: text("unlinked"), ..LedgerFilter::default() }),
        event_page("events: of reconcile", move |_, _| LedgerFilter { source: text("reconcile"), ..LedgerFilter::default() }),
        event_page("events: of a source that none has", move |_, _| LedgerFilter {
            source: text("replay"),
            ..LedgerFilter::default()
        }),
        event_page("events: of a customer", |s, n| LedgerFilter { owner_id: Some(s.customer(n)), ..LedgerFilter::default() }),
        event_page("events: of an old week", |s, _| {
            let (from, before) = s.old_week();
            LedgerFilter { received_from: from, received_before: before, ..LedgerFilter::default() }
        }),
    ]
}

fn events_of_users() -> Vec<Case> {
    const EVENTS: &str = "GET /v1/users/{clerk_id}/events";
    vec![
        Case::new(Kind::Page, "events: of a user", EVENTS, |store, s, n| {
            async move { store.list_ledger_of_user(&s.user(n), None, PAGE, true).await.map(|rows| rows.len()) }.boxed()
        }),
        Case::new(Kind::Page, "events: of the largest user, last page", EVENTS, |store, s, _| {
            let after = s.last_page_of_largest(90, 10).map(|(at, _)| (at, "~".to_owned()));
            async move { store.list_ledger_of_user(&s.largest_user(), after, PAGE, false).await.map(|rows| rows.len()) }.boxed()
        }),
    ]
}
