//! The sample data set: the same rows every time, gone on with where it was interrupted, and never beside anybody's own.

use billsync::store::{SampleSet, Store, StoreSettings, UserFilter};
use chrono::Days;

use crate::support::database::{TestDatabase, database};
use crate::support::server::now;

const SET: fn() -> SampleSet = || SampleSet { users: 200, at: now() };

async fn store_of(database: &TestDatabase) -> Store {
    Store::connect(&StoreSettings::new(&database.url)).await.unwrap()
}

/// Rows and a digest of all values of each table.
async fn contents(database: &TestDatabase) -> Vec<(String, i64, String)> {
    let mut contents = Vec::new();
    for table in [
        "public.users",
        "public.user_subscriptions",
        "public.user_billing",
        "public.user_usage",
        "public.user_system_data",
        "public.campaigns",
        "public.scraping_jobs",
        "public.scraping_results",
        "public.creator_lists",
        "public.list_items",
        "billsync.owners",
        "billsync.provider_objects",
        "billsync.usage_periods",
        "billsync.webhook_events",
        "billsync.webhook_payloads",
        "billsync.consume_keys",
    ] {
        let rows: i64 = database.ask(&format!("select count(*) from {table}")).await;
        let digest = format!("select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {table} t");
        contents.push((table.to_owned(), rows, database.ask(&digest).await));
    }
    contents
}

#[tokio::test]
async fn a_set_is_the_same_rows_also_after_an_interruption() {
    let (whole, interrupted) = (database().await, database().await);
    let (first, other) = (store_of(&whole).await, store_of(&interrupted).await);
    first.make_sample_data(SET(), |_| {}).await.unwrap();
    // Ended at every table once, by dropping what makes it.
    for ends_after in 1..12 {
        let told = std::cell::Cell::new(0);
        let (reached, has_reached) = tokio::sync::oneshot::channel();
        let reached = std::cell::Cell::new(Some(reached));
        let making = other.make_sample_data(SET(), |_| {
            told.set(told.get() + 1);
            if told.get() > ends_after % 3
                && let Some(reached) = reached.take()
            {
                reached.send(()).unwrap();
            }
        });
        tokio::select! {
            biased;
            _ = has_reached => {}
            made = making => made.unwrap(),
        }
    }
    other.make_sample_data(SET(), |_| {}).await.unwrap();
    let contents_of_first = contents(&whole).await;
    assert_eq!(contents_of_first, contents(&interrupted).await);
    let rows = |table: &str| contents_of_first.iter().find(|(name, ..)| name == table).unwrap().1;
    assert_eq!((rows("public.users"), rows("public.user_system_data"), rows("billsync.webhook_payloads")), (200, 200, 2000));
    assert_eq!((rows("public.campaigns"), rows("public.scraping_jobs"), rows("public.list_items")), (2000, 2000, 2000));

    let state = first.find_sample_data().await.unwrap().unwrap();
    assert!(state.is_complete && state.is_of(&SET()));
    let active = UserFilter { subscription_status: Some("past_due".into()), limit: 200, ..UserFilter::default() };
    assert_eq!(first.list_users(&active).await.unwrap().len(), 8);
    let profile = first.get_user_by_stripe_subscription_id("sub_bench_1").await.unwrap().unwrap();
    assert_eq!((profile.user_id.as_str(), profile.subscription_status.as_str()), ("user_bench_1", "active"));
    // Making it again changes nothing.
    first.make_sample_data(SET(), |_| {}).await.unwrap();
    assert_eq!(contents_of_first, contents(&whole).await);
}

#[tokio::test]
async fn a_set_is_not_made_where_anything_else_is() {
    let database = database().await;
    let store = store_of(&database).await;
    database.execute("insert into users (user_id) values ('user_somebody')").await;
    let refusal = store.make_sample_data(SET(), |_| {}).await.unwrap_err();
    assert!(refusal.to_string().contains("of its own"), "{refusal}");
    assert_eq!(database.ask::<i64>("select count(*) from users").await, 1);

    database.execute("delete from users").await;
    store.make_sample_data(SET(), |_| {}).await.unwrap();
    let later = SampleSet { at: now().checked_add_days(Days::new(1)).unwrap(), ..SET() };
    for other in [later, SampleSet { users: 201, ..SET() }] {
        let refusal = store.make_sample_data(other, |_| {}).await.unwrap_err();
        assert!(refusal.to_string().contains("another set"), "{refusal}");
    }
    assert_eq!(database.ask::<i64>("select count(*) from users").await, 200);
}
