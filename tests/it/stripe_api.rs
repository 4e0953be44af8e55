//! The client of Stripe's API against a Stripe on loopback: pages, pace, retries, and what it says when nothing helps.

use std::time::{Duration, Instant};

use billsync::clock::Clock;
use billsync::stripe_api::{ApiError, Filter, Options, Resource};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::server::now;
use crate::support::stripe::{API_KEY, FakeStripe, Fault};

async fn fake() -> (FakeStripe, Clock) {
    let clock = Clock::manual(now());
    (FakeStripe::start(clock.clone()).await, clock)
}

fn customer(number: u32) -> Value {
    json!({"id": format!("cus_{number:04}"), "object": "customer", "created": 1_700_000_000 + number, "name": "ünï", "big": 1.50})
}

async fn list_customers(fake: &FakeStripe, clock: Clock) -> Result<usize, ApiError> {
    let objects = fake.api(clock).fetch_all(Resource::Customers, &Filter::default()).await?;
    Ok(objects.len())
}

#[tokio::test]
async fn a_list_is_read_to_its_end_over_few_connections() {
    let (fake, clock) = fake().await;
    fake.put((0..250).map(customer));
    let all = fake.api(clock).fetch_all(Resource::Customers, &Filter::default()).await.unwrap();
    assert_eq!(all.len(), 250);
    assert_eq!((fake.asked().len(), fake.connections()), (3, 1), "connections are kept");
    assert!(all[0].text.contains("\"ünï\"") && all[0].text.contains("1.5"), "{}", all[0].text);
    assert_eq!(all[0].api_version.as_deref(), Some("2025-09-30.clover"), "the version that the answer is written in");
}

#[tokio::test]
async fn objects_that_appear_between_pages_hide_none() {
    let (fake, clock) = fake().await;
    fake.put((0..250).map(customer));
    let mut next = 1000;
    fake.on_request(move |_asked, objects| {
        for _ in 0..7 {
            next += 1;
            objects.put(customer(next));
        }
    });
    let all = fake.api(clock).fetch_all(Resource::Customers, &Filter::default()).await.unwrap();
    let old = all.iter().filter(|read| !read.text.contains("\"cus_1")).count();
    assert_eq!(old, 250);
}

#[tokio::test]
async fn every_passing_fault_is_got_over() {
    for fault in [
        Fault::Status(500, ""),
        Fault::Status(502, ""),
        Fault::Status(409, ""),
        Fault::Status(429, ""),
        Fault::Status(503, "Retry-After: 0\r\n"),
        Fault::Cut,
        Fault::CutInTheMiddle,
    ] {
        let (fake, clock) = fake().await;
        fake.put([customer(1)]);
        fake.fail_next([fault.clone(), fault.clone()]);
        assert_eq!(list_customers(&fake, clock).await, Ok(1), "{fault:?}");
        assert_eq!(fake.asked().len(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn silence_is_a_fault_too() {
    let (fake, clock) = fake().await;
    fake.put([customer(1)]);
    fake.fail_next([Fault::Silence]);
    let options = Options { attempt_timeout: Duration::from_millis(300), ..fake.options() };
    let read = fake.api_with(clock, options).fetch(Resource::Customers, "cus_0001").await.unwrap();
    assert!(read.is_some());
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn other_refusals_are_final_and_said_without_the_key() {
    for (fault, expected) in [
        (Fault::Status(400, ""), "refused /customers with 400 (made_up)"),
        (Fault::Status(401, ""), "does not accept STRIPE_API_KEY"),
        (Fault::Status(402, ""), "refused /customers with 402"),
        (Fault::Status(403, ""), "rak_made_up_read"),
        (Fault::Status(500, "Stripe-Should-Retry: false\r\n"), "with 500"),
        (Fault::Garbage, "cannot be read"),
    ] {
        let (fake, clock) = fake().await;
        fake.fail_next([fault.clone()]);
        let error = list_customers(&fake, clock).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{fault:?}: {error}");
        assert_eq!(fake.asked().len(), 1, "{fault:?}: asked again");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("51Fake"), "{shown}");
    }
}

#[tokio::test]
async fn what_never_ends_is_given_up_and_named() {
    let (fake, clock) = fake().await;
    fake.fail_always("/v1/customers", Fault::Cut);
    let options = Options { attempts: 4, ..fake.options() };
    let error = fake.api_with(clock, options).fetch_page(Resource::Customers, &Filter::default(), None).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("in 4 attempts, at last: the connection was cut"), "{error}");
    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (fake, clock) = fake().await;
    fake.put([customer(1)]);
    fake.fail_next([Fault::Status(429, "Retry-After: 1\r\n")]);
    let began = Instant::now();
    assert_eq!(list_customers(&fake, clock).await, Ok(1));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_is_gone_is_none_and_a_deleted_customer_says_so() {
    let (fake, clock) = fake().await;
    fake.put([customer(1)]);
    fake.delete("cus_0001");
    let api = fake.api(clock);
    assert!(api.fetch(Resource::Invoices, "in_1").await.unwrap().is_none());
    let asked = fake.asked().len();
    assert!(api.fetch(Resource::Invoices, "in_1/../../x?").await.unwrap().is_none());
    assert_eq!(fake.asked().len(), asked, "no such path is asked for");
    let stub = api.fetch(Resource::Customers, "cus_0001").await.unwrap().unwrap();
    assert!(stub.text.contains("\"deleted\":true"), "{}", stub.text);
}

#[tokio::test]
async fn an_answer_is_no_younger_than_either_clock() {
    for offset in [-30, 0, 30] {
        let (fake, _) = fake().await;
        fake.put([customer(1)]);
        let ours = Clock::manual(now() + TimeDelta::seconds(offset));
        let read = fake.api(ours.clone()).fetch(Resource::Customers, "cus_0001").await.unwrap().unwrap();
        assert!(read.as_of <= now().min(ours.now()), "{offset}: {}", read.as_of);
        assert!(read.as_of > now() - TimeDelta::seconds(60), "{offset}: {}", read.as_of);
    }
}

#[tokio::test]
async fn missing_scopes_are_all_found() {
    let (fake, clock) = fake().await;
    assert_eq!(fake.api(clock.clone()).find_missing_scopes().await, Ok(Vec::new()));
    for path in ["/v1/invoices", "/v1/payment_methods/pm_scope_check", "/v1/events"] {
        fake.fail_always(path, Fault::Status(403, ""));
    }
    let missing = fake.api(clock).find_missing_scopes().await.unwrap();
    let resources: Vec<&str> = missing.iter().map(|scope| scope.resource).collect();
    assert_eq!(resources, ["payment_methods", "invoices", "events"]);
    assert!(missing[1].permission.contains("Invoices: Read"), "{missing:?}");
}

#[tokio::test]
async fn the_key_is_in_no_text() {
    let (fake, clock) = fake().await;
    let api = fake.api(clock);
    let shown = format!("{api:?} {:?}", fake.options());
    assert!(!shown.contains(API_KEY) && !shown.contains("51Fake"), "{shown}");
}
