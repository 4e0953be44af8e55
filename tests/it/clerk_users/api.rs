//! The client of Clerk's API against a fake one: what is tried again, what is not, and what it says.

use std::time::Duration;

use billsync::clerk_api::{ClerkApi, ClerkApiError, Options, UserCursor};
use billsync::clock::Clock;
use billsync::config::Secret;

use crate::support::fake_clerk::{FakeClerk, KEY, Mishap, clerk_user};
use crate::support::server::now;

pub fn quick() -> Options {
    Options {
        interval: Duration::from_millis(1),
        first_delay: Duration::from_millis(1),
        timeout: Duration::from_secs(10),
        page_size: 3,
        ..Options::default()
    }
}

pub fn api_of(fake: &FakeClerk, options: Options) -> ClerkApi {
    ClerkApi::new(Secret::new(KEY), &fake.base(), options, Clock::manual(now())).unwrap()
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_until_it_passes() {
    let fake = FakeClerk::start().await;
    fake.put(clerk_user(1, now()));
    let api = api_of(&fake, Options { attempts: 9, ..quick() });
    let passing = [
        Mishap::Status(500, ""),
        Mishap::Cut,
        Mishap::Half,
        Mishap::Status(429, ""),
        Mishap::Status(503, "retry-after: 0\r\n"),
        Mishap::Status(429, "retry-after: 1\r\n"),
    ];
    fake.go_wrong(passing.clone());
    let started = std::time::Instant::now();
    let user = api.fetch_user("user_1").await.unwrap().unwrap();
    assert!(user.text.contains("user_1@example.com"));
    assert_eq!(fake.requests().len(), passing.len() + 1);
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After is waited for");
}

#[tokio::test]
async fn what_cannot_pass_is_tried_once_and_named() {
    let fake = FakeClerk::start().await;
    let api = api_of(&fake, quick());
    for (status, expected) in [(400, "refused"), (401, "CLERK_SECRET_KEY"), (403, "does not allow"), (422, "422, some_code")] {
        fake.go_wrong([Mishap::Status(status, "")]);
        let before = fake.requests().len();
        let error = api.fetch_user("user_1").await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        assert_eq!(fake.requests().len(), before + 1, "{status} is not tried again");
    }
    assert!(api.fetch_user("user_1").await.unwrap().is_none(), "404 is nobody");
    for id in ["", "../v1/organizations", "user 1", "user_1?x=1"] {
        assert!(matches!(api.fetch_user(id).await, Err(ClerkApiError::NotAnId(_))), "{id}");
    }
}

#[tokio::test]
async fn it_gives_up_in_the_end_and_says_why() {
    let fake = FakeClerk::start().await;
    let api = api_of(&fake, Options { attempts: 3, ..quick() });
    fake.go_wrong(vec![Mishap::Status(500, ""); 3]);
    let error = api.fetch_user("user_1").await.unwrap_err();
    assert_eq!(error, ClerkApiError::Unavailable { cause: "answered 500".into(), attempts: 3 });

    let impatient = api_of(&fake, Options { attempts: 2, timeout: Duration::from_millis(50), ..quick() });
    fake.go_wrong(vec![Mishap::Silent; 2]);
    let error = impatient.fetch_user("user_1").await.unwrap_err();
    assert_eq!(error, ClerkApiError::Unavailable { cause: "did not answer in time".into(), attempts: 2 });

    fake.go_wrong([Mishap::Status(429, "retry-after: 86400\r\n")]);
    let error = api.fetch_user("user_1").await.unwrap_err();
    assert_eq!(error, ClerkApiError::AskedToWait(Duration::from_secs(86_400)));
}

#[tokio::test]
async fn the_key_is_checked_and_never_shown() {
    let fake = FakeClerk::start().await;
    let api = api_of(&fake, quick());
    api.check_key().await.unwrap();
    assert!(!format!("{api:?}").contains("hunter2"));

    let wrong = ClerkApi::new(Secret::new("sk_test_wrong_hunter2"), &fake.base(), quick(), Clock::System).unwrap();
    let error = wrong.check_key().await.unwrap_err();
    assert!(error.to_string().contains("401, clerk_key_invalid"), "{error}");
    assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");

    let nobody = ClerkApi::new(Secret::new(KEY), "http://127.0.0.1:1", quick(), Clock::System).unwrap();
    let error = nobody.check_key().await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("tried 1 times"), "{error}");
}

#[tokio::test]
async fn pages_give_everybody_also_while_users_disappear() {
    let fake = FakeClerk::start().await;
    for number in 1..=20 {
        fake.put(clerk_user(number, now()));
    }
    // Of those already read: the ones behind them move up, past the next page's beginning.
    for (pages, id) in [(1, "user_1"), (2, "user_2"), (2, "user_3"), (2, "user_4"), (2, "user_5"), (4, "user_6")] {
        fake.delete_after_pages(pages, id);
    }
    let api = api_of(&fake, quick());
    let mut met = std::collections::BTreeSet::new();
    let mut cursor = Some(UserCursor::default());
    while let Some(from) = cursor {
        // A cursor survives its process.
        let from: UserCursor = serde_json::from_str(&serde_json::to_string(&from).unwrap()).unwrap();
        let page = api.list_users(&from, None).await.unwrap();
        met.extend(page.users.into_iter().map(|user| user.id.unwrap()));
        cursor = page.next;
    }
    let left = fake.user_ids();
    assert!(left.len() == 14 && left.is_subset(&met), "left out: {:?}", left.difference(&met));
}
