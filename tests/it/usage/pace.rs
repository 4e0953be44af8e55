//! How the reset gives way to others.

use std::sync::Arc;

use billsync::schedule::{Work, usage_reset};
use billsync::store::{Store, StoreSettings};

use super::{set_period, users};
use crate::batch::{at, bench, clerk_user};

const START: &str = "2026-01-01T00:00:00Z";
const END: &str = "2026-02-01T00:00:00Z";

#[tokio::test]
async fn an_event_that_came_in_is_seen() {
    let bench = bench().await;
    let before = bench.store.look_at_pressure().await.unwrap();
    assert_eq!(before.newest_event, None);
    bench.commit(&[Arc::new(clerk_user(1))]).await;
    let after = bench.store.look_at_pressure().await.unwrap();
    assert_eq!(after.newest_event, Some(bench.clock.now()));
    assert!(after.unwritten_bytes >= 0 && before.unwritten_bytes >= 0);
}

#[tokio::test]
async fn a_server_that_does_not_tell_how_much_it_has_to_write_is_no_hindrance() {
    let bench = bench().await;
    users(&bench, 300).await;
    set_period(&bench, START, START, END).await;
    let role = format!("role_of_{}", bench.database.name);
    let sql = format!(
        "revoke execute on function pg_catalog.pg_current_wal_insert_lsn() from public; \
         create role {role} login bypassrls password 'plain'; grant usage on schema public, billsync to {role}; \
         grant all on all tables in schema public, billsync to {role}"
    );
    bench.database.execute(&sql).await;
    let store = Store::connect(&StoreSettings::new(bench.database.url_for(&role, "plain"))).await.unwrap();
    assert!(store.look_at_pressure().await.is_err());
    bench.clock.set(at("2026-03-01T00:00:00Z"));
    let work = Work::new(store.clone(), Arc::new(bench.rules.clone()), bench.clock.clone());
    let summary = usage_reset::reset(&work, None).await.unwrap();
    assert_eq!((summary.rows, summary.left), (300, 0));
    assert!(summary.batches > 1, "there was something to look at between");
    store.close().await;
    bench.database.execute(&format!("drop owned by {role}; drop role {role}")).await;
}
