//! Each filter of each list, as the store asks: which index the server goes through, and how many rows it has to read for a
//! page. On a sample of enough rows that reading all of a table would be told.

use billsync::domain::discovery::{CampaignStatus, JobStatus};
use billsync::store::{
    CampaignFilter, CreatorListFilter, ItemFilter, JobFilter, LedgerFilter, Plan, PlanLog, SampleSet, Store, StoreSettings,
    UserFilter,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use uuid::Uuid;

use crate::batch::at;
use crate::support::database::{TestDatabase, database};

const PAGE: i64 = 51;

/// Of twenty thousand in the large tables.
const USERS: u32 = 2000;

/// What a page may read: less than a tenth of such a table.
const MOST_ROWS: u64 = 2000;

struct Sample {
    database: TestDatabase,
    store: Store,
    plans: PlanLog,
    now: DateTime<Utc>,
}

/// A name for people, what is read, and the index that leads there.
type Case = (&'static str, &'static str, LocalBoxFuture<'static, usize>);

/// The sample, and in it a few rows of every kind that is rare in a real data set.
async fn sample() -> Sample {
    let database = database().await;
    let store = Store::connect(&StoreSettings { max_connections: 2, ..StoreSettings::new(&database.url) }).await.unwrap();
    let now = at("2026-03-10T12:00:00Z");
    store.make_sample_data(SampleSet { users: USERS, at: now }, |_| {}).await.unwrap();
    database
        .execute(
            "update campaigns set status = 'active' where status = 'draft'; \
             update campaigns set search_type = 'rare', status = 'draft' where id in (select id from campaigns order by id limit 5); \
             update creator_lists set is_archived = false; \
             update creator_lists set is_archived = true where id in (select id from creator_lists order by id limit 5); \
             update scraping_jobs set status = 'completed' where status = 'timeout'; \
             update scraping_jobs set platform = 'rare', status = 'timeout', keywords = '[\"a, b\", \"rare\"]', \
                 search_params = '{\"rare\": 1, \"language\": \"xx\", \"mode\": true, \"large\": 12345678901234567890123}' \
                 where id in (select id from scraping_jobs order by id limit 5); \
             update user_subscriptions set subscription_status = 'unpaid', current_plan = 'rare' \
                 where id in (select id from user_subscriptions order by id limit 5); \
             update billsync.webhook_events set outcome = 'applied' where outcome in ('unlinked', 'stale'); \
             update billsync.webhook_events set outcome = 'unlinked', source = 'replay', event_type = 'rare' \
                 where event_id in (select event_id from billsync.webhook_events order by received_at limit 5)",
        )
        .await;
    // One at a time: a vacuum is no part of a transaction. It also moves what the GIN indexes have pending to its place.
    for table in ["campaigns", "creator_lists", "scraping_jobs", "user_subscriptions", "billsync.webhook_events"] {
        database.execute(&format!("vacuum analyze {table}")).await;
    }
    let (store, plans) = store.logging_plans();
    Sample { database, store, plans, now }
}

macro_rules! cases {
    ($name:ident, $filter:ident, $list:ident) => {
        impl Sample {
            /// Those whose cases are a filter, an index and how many rows there are.
            async fn $name(&self, cases: Vec<($filter, &str, usize)>) {
                let mut wrong = Vec::new();
                for (filter, index, count) in cases {
                    let filter = $filter { limit: PAGE, ..filter };
                    let rows = self.store.$list(&filter).await.unwrap().len();
                    wrong.extend(self.fault(rows == count, index).map(|fault| format!("{filter:?}: {rows} rows by {fault}")));
                }
                assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            }
        }
    };
}

cases!(users, UserFilter, list_users);
cases!(campaigns, CampaignFilter, list_campaigns);
cases!(jobs, JobFilter, list_jobs);
cases!(lists, CreatorListFilter, list_creator_lists);
cases!(ledger, LedgerFilter, list_ledger);

impl Sample {
    /// How the one statement since the last one went, if not by that index, or if it read too much.
    fn fault(&self, is_complete: bool, index: &str) -> Option<String> {
        let plans: Vec<Plan> = self.plans.take();
        let [plan] = &plans[..] else { return Some(format!("{} statements", plans.len())) };
        let is_fine = plan.indexes.iter().any(|used| used == index) && plan.big_scans.is_empty() && plan.rows_read <= MOST_ROWS;
        if is_complete && is_fine { None } else { Some(format!("{plan}, {} read, in place of {index}", plan.rows_read)) }
    }

    fn days_ago(&self, days: i64) -> Option<DateTime<Utc>> {
        Some(self.now - TimeDelta::days(days))
    }

    /// Behind nearly every row of a list that goes back so far.
    fn nearly_last(&self, days: i64) -> Option<(DateTime<Utc>, Uuid)> {
        self.days_ago(days).map(|at| (at, Uuid::max()))
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn users_campaigns_and_lists_are_read_by_index_whatever_they_are_filtered_by() {
    let sample = sample().await;
    let all = UserFilter::default;
    sample
        .users(vec![
            (all(), "users_created_at_idx", 51),
            (UserFilter { after: sample.nearly_last(729), ..all() }, "users_created_at_idx", 2),
            (UserFilter { email: some("Bench.40@Example.com"), ..all() }, "users_email_lower_idx", 1),
            (UserFilter { stripe_customer_id: some("cus_bench_40"), ..all() }, "owners_pkey", 1),
            (UserFilter { stripe_subscription_id: some("sub_bench_40"), ..all() }, "provider_objects_pkey", 1),
            (UserFilter { subscription_status: some("active"), ..all() }, "users_created_at_idx", 51),
            (
                UserFilter { subscription_status: some("unpaid"), after: sample.nearly_last(728), ..all() },
                "users_created_at_idx",
                5,
            ),
            (UserFilter { subscription_status: some("paused"), ..all() }, "user_subscriptions_status_idx", 0),
            (UserFilter { current_plan: some("glow_up"), ..all() }, "users_created_at_idx", 51),
            (UserFilter { current_plan: some("rare"), ..all() }, "user_subscriptions_current_plan_idx", 5),
            (
                UserFilter { created_from: sample.days_ago(300), created_before: sample.days_ago(299), ..all() },
                "users_created_at_idx",
                2,
            ),
        ])
        .await;
    let all = CampaignFilter::default;
    let of_first = || CampaignFilter { user_id: some("user_bench_1"), ..all() };
    sample
        .campaigns(vec![
            (all(), "campaigns_created_at_idx", 51),
            (CampaignFilter { after: sample.nearly_last(364), ..all() }, "campaigns_created_at_idx", 51),
            (of_first(), "campaigns_user_id_idx", 51),
            (CampaignFilter { after: sample.nearly_last(360), ..of_first() }, "campaigns_user_id_idx", 4),
            (CampaignFilter { status: Some(CampaignStatus::Active), ..all() }, "campaigns_status_idx", 51),
            (CampaignFilter { status: Some(CampaignStatus::Draft), ..all() }, "campaigns_status_idx", 5),
            (CampaignFilter { status: Some(CampaignStatus::Draft), ..of_first() }, "campaigns_status_idx", 1),
            (CampaignFilter { search_type: some("rare"), ..all() }, "campaigns_search_type_idx", 5),
            (CampaignFilter { search_type: some("none"), ..all() }, "campaigns_search_type_idx", 0),
            (
                CampaignFilter { created_from: sample.days_ago(300), created_before: sample.days_ago(299), ..all() },
                "campaigns_created_at_idx",
                51,
            ),
        ])
        .await;
    let all = CreatorListFilter::default;
    sample
        .lists(vec![
            (all(), "creator_lists_created_at_idx", 51),
            (CreatorListFilter { after: sample.nearly_last(364), ..all() }, "creator_lists_created_at_idx", 10),
            (CreatorListFilter { user_id: some("user_bench_2"), ..all() }, "creator_lists_user_id_idx", 22),
            (CreatorListFilter { is_archived: Some(true), ..all() }, "creator_lists_archived_idx", 5),
            (CreatorListFilter { is_archived: Some(false), ..all() }, "creator_lists_created_at_idx", 51),
        ])
        .await;
}

#[tokio::test]
async fn jobs_are_read_by_index_whatever_they_are_filtered_by() {
    let sample = sample().await;
    let (newest, user) = ("scraping_jobs_created_at_idx", "scraping_jobs_user_id_idx");
    let (by_keyword, by_param) = ("scraping_jobs_keywords_idx", "scraping_jobs_search_params_idx");
    let all = JobFilter::default;
    let of_first = || JobFilter { user_id: some("user_bench_1"), ..all() };
    let campaign = sample.store.list_campaigns(&CampaignFilter { limit: 4, ..CampaignFilter::default() }).await.unwrap();
    let campaign_id =
        sample.database.ask::<Uuid>("select campaign_id from scraping_jobs where campaign_id is not null limit 1").await;
    assert_eq!((campaign.len(), sample.plans.take().len()), (4, 1));
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let keywords = |it: &[&str]| JobFilter { keywords: words(it), ..all() };
    let param = |key: &str| JobFilter { search_param: some(key), ..all() };
    let value = |key: &str, value: &str| JobFilter { search_param_value: some(value), ..param(key) };
    sample
        .jobs(vec![
            (all(), newest, 51),
            (JobFilter { after: sample.nearly_last(364), ..all() }, newest, 51),
            (of_first(), user, 51),
            (JobFilter { after: sample.nearly_last(360), ..of_first() }, user, 4),
            (JobFilter { campaign_id: Some(campaign_id), ..all() }, "scraping_jobs_campaign_idx", 1),
            (JobFilter { status: Some(JobStatus::Timeout), ..all() }, "scraping_jobs_status_idx", 5),
            (JobFilter { status: Some(JobStatus::Timeout), ..of_first() }, "scraping_jobs_status_idx", 1),
            (JobFilter { platform: some("rare"), ..all() }, "scraping_jobs_platform_idx", 5),
            (JobFilter { platform: some("none"), ..all() }, "scraping_jobs_platform_idx", 0),
            (JobFilter { created_from: sample.days_ago(300), created_before: sample.days_ago(299), ..all() }, newest, 51),
            (keywords(&["beauty"]), newest, 51),
            (keywords(&["rare"]), by_keyword, 5),
            (keywords(&["rare", "a, b"]), by_keyword, 5),
            (keywords(&["beauty", "keyword 500"]), by_keyword, 20),
            (keywords(&["nothing"]), by_keyword, 0),
            (JobFilter { keywords: words(&["rare"]), ..of_first() }, by_keyword, 1),
            (param("language"), newest, 51),
            (param("rare"), by_param, 5),
            (param("nothing"), by_param, 0),
            (value("language", "en"), newest, 51),
            (value("language", "xx"), by_param, 5),
            (value("language", "yy"), by_param, 0),
            (value("rare", "1"), by_param, 5),
            (value("rare", "1.0"), by_param, 0),
            (value("mode", "true"), by_param, 5),
            (value("large", "12345678901234567890123"), by_param, 5),
            (value("hashtag", "tag109"), by_param, 40),
            (value("nothing", "{\"a\": 1}"), by_param, 0),
        ])
        .await;
}

#[tokio::test]
async fn events_results_and_items_are_read_by_index_whatever_they_are_filtered_by() {
    let sample = sample().await;
    let all = LedgerFilter::default;
    let newest = "webhook_events_received_at_idx";
    let nearly_last = sample.days_ago(90).map(|at| (at + TimeDelta::hours(6), "~".to_owned()));
    sample
        .ledger(vec![
            (all(), newest, 51),
            (LedgerFilter { after: nearly_last, ..all() }, newest, 51),
            (LedgerFilter { provider: some("clerk"), ..all() }, newest, 51),
            (LedgerFilter { provider: some("import"), ..all() }, "webhook_events_pkey", 0),
            (LedgerFilter { outcome: some("applied"), ..all() }, newest, 51),
            (LedgerFilter { outcome: some("failed"), ..all() }, "webhook_events_failed_idx", 19),
            (LedgerFilter { outcome: some("unlinked"), ..all() }, "webhook_events_outcome_idx", 5),
            (LedgerFilter { outcome: some("stale"), ..all() }, "webhook_events_outcome_idx", 0),
            (LedgerFilter { event_type: some("rare"), ..all() }, "webhook_events_event_type_idx", 5),
            (LedgerFilter { event_type: some("none"), ..all() }, "webhook_events_event_type_idx", 0),
            (LedgerFilter { source: some("webhook"), ..all() }, newest, 51),
            (LedgerFilter { source: some("replay"), ..all() }, "webhook_events_source_idx", 5),
            (LedgerFilter { source: some("job"), ..all() }, "webhook_events_source_idx", 0),
            (LedgerFilter { owner_id: some("cus_bench_500"), ..all() }, "webhook_events_owner_id_idx", 10),
            (LedgerFilter { received_from: sample.days_ago(60), received_before: sample.days_ago(59), ..all() }, newest, 51),
            (LedgerFilter { with_effects: true, ..all() }, newest, 51),
        ])
        .await;
    let store = &sample.store;
    let list: Uuid = sample.database.ask("select list_id from list_items group by 1 order by count(*) desc limit 1").await;
    let job: Uuid = sample.database.ask("select job_id from scraping_results group by 1 order by count(*) desc limit 1").await;
    let item = || ItemFilter { limit: PAGE, ..ItemFilter::default() };
    let cases: Vec<Case> = {
        let store = |_: &str| store.clone();
        let of_user = |after: Option<(DateTime<Utc>, String)>| {
            let store = store("events");
            async move { store.list_ledger_of_user("user_bench_40", after, PAGE, true).await.unwrap().len() }.boxed_local()
        };
        let items = |filter: ItemFilter| {
            let store = store("items");
            async move { store.list_items(list, &filter).await.unwrap().len() }.boxed_local()
        };
        let results = |after: Option<(DateTime<Utc>, Uuid)>| {
            let store = store("results");
            async move { store.list_results(job, after, PAGE, true).await.unwrap().len() }.boxed_local()
        };
        vec![
            ("events of a user", "webhook_events_owner_id_idx", of_user(None)),
            ("events of a user, on", "webhook_events_owner_id_idx", of_user(Some((sample.now, "~".to_owned())))),
            ("items", "list_items_list_id_idx", items(item())),
            ("items, on", "list_items_list_id_idx", items(ItemFilter { after: Some((100, Uuid::max())), ..item() })),
            (
                "items of a platform",
                "list_items_list_id_platform_creator_handle_key",
                items(ItemFilter { platform: some("tiktok"), ..item() }),
            ),
            ("results", "scraping_results_job_id_idx", results(None)),
            ("results, on", "scraping_results_job_id_idx", results(sample.nearly_last(300))),
        ]
    };
    for (name, index, rows) in cases {
        let fault = sample.fault(rows.await > 0, index);
        assert_eq!(fault, None, "{name}");
    }
}
