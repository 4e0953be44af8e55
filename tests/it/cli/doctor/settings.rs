//! Settings that are wrong, keys that are refused: told all at once, and never by their value.

use billsync::clock::Clock;

use super::{doctor, stripe, with_plans};
use crate::cli::{billsync, run};
use crate::support::fake_clerk::{self, FakeClerk};
use crate::support::stripe::{API_KEY, FakeStripe, Fault};

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_told_at_once() {
    let stripe = FakeStripe::start(Clock::System).await;
    let (base, folder) = (stripe.base(), tempfile::tempdir().unwrap());
    let file = folder.path().join("billsync.toml");
    std::fs::write(&file, "billsync_queue_events = 0\nlink = 1\n").unwrap();
    let diagnosis = doctor(
        &[
            ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/db"),
            ("BILLSYNC_LISEN", "hunter2"),
            ("STRIPE_WEBHOOK_SECRETS", "sk_live_hunter2"),
            ("BILLSYNC_LIVEMODE", "live"),
            ("CLERK_WEBHOOK_SECRETS", ""),
            ("STRIPE_API_KEY", "rk_test_hunter2"),
            ("STRIPE_API_BASE", &base),
            ("CLERK_SECRET_KEY", "'hunter2'"),
        ],
        &["--config", file.to_str().unwrap()],
    );
    assert_eq!(diagnosis.code, 1);
    diagnosis.expect("error", "BILLSYNC_LISEN: unknown setting", "use the name BILLSYNC_LISTEN");
    diagnosis.expect(
        "error",
        "STRIPE_WEBHOOK_SECRETS (environment): entry 1 is an API key",
        "export STRIPE_WEBHOOK_SECRETS=whsec_",
    );
    diagnosis.expect("error", "CLERK_WEBHOOK_SECRETS (environment): is set but empty", "unset CLERK_WEBHOOK_SECRETS");
    diagnosis.expect(
        "error",
        "CLERK_SECRET_KEY (environment): is wrapped in quotation marks",
        "export CLERK_SECRET_KEY=sk_live_",
    );
    diagnosis.expect("error", "billsync_queue_events", "billsync_queue_events = \"…\"   # in /");
    diagnosis.expect("error", "unknown setting link", "README");
    diagnosis.expect("error", "onnection refused", "pg_isready");
    diagnosis.expect("error", "Stripe does not accept STRIPE_API_KEY", "export STRIPE_API_KEY=");
    assert!(!diagnosis.printed.contains("hunter2"), "{}", diagnosis.printed);
    // Each is told once: what cannot be read is not told again as what is not set.
    assert_eq!(diagnosis.trouble("clerk"), [""; 0]);
    assert_eq!(
        diagnosis.trouble("secrets"),
        ["STRIPE_API_KEY is of test mode, but BILLSYNC_LIVEMODE is live: what it reads is ignored"]
    );

    let (code, shown, complaints) =
        run(billsync(&["doctor", "--offline", "--config", "/nowhere/billsync.toml"]).env("BILLSYNC_HOME", folder.path()));
    assert_eq!(code, 1, "{complaints}");
    assert!(shown.contains("/nowhere/billsync.toml: No such file") && shown.contains("secrets"), "{shown}");
}

#[test]
fn a_database_url_that_cannot_be_read_is_not_taken_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let settings = [("DATABASE_URL", "hunter2"), ("BILLSYNC_HOME", home.to_str().unwrap())];
    let diagnosis = doctor(&settings, &["--offline"]);
    diagnosis.expect("error", "the database was not looked at", "export DATABASE_URL=postgres://");
    assert!(!home.exists() && !diagnosis.printed.contains("hunter2"));
}

#[test]
fn a_key_is_told_by_its_shape_alone() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let shaped = |stripe, livemode, clerk| {
        let settings = [
            ("BILLSYNC_HOME", home.to_str().unwrap()),
            ("STRIPE_API_KEY", stripe),
            ("BILLSYNC_LIVEMODE", livemode),
            ("CLERK_SECRET_KEY", clerk),
        ];
        let diagnosis = doctor(&settings, &["--offline"]);
        assert!(!diagnosis.printed.contains("hunter2"), "{}", diagnosis.printed);
        diagnosis
    };
    let good = shaped("rk_live_hunter2", "live", "sk_live_hunter2");
    assert_eq!(good.trouble("secrets"), [""; 0]);
    good.expect("ok", "STRIPE_API_KEY: of the right shape, live mode", "");
    shaped("rk_live_hunter2", "test", "sk_test_hunter2").expect(
        "error",
        "of live mode, but BILLSYNC_LIVEMODE is test",
        "BILLSYNC_LIVEMODE=live",
    );
    let public = shaped("pk_live_hunter2", "any", "pk_live_hunter2");
    public.expect(
        "warning",
        "STRIPE_API_KEY does not begin as a secret or restricted key does",
        "export STRIPE_API_KEY=rk_live_…",
    );
    public.expect("warning", "CLERK_SECRET_KEY does not begin with sk_", "export CLERK_SECRET_KEY=sk_live_…");
    let singular = doctor(&[("BILLSYNC_HOME", home.to_str().unwrap()), ("CLERK_WEBHOOK_SECRET", "x")], &["--offline"]);
    singular.expect("error", "both are set, and they mean the same", "unset CLERK_WEBHOOK_SECRET ");
}

#[test]
fn what_is_not_set_is_told_with_what_that_means() {
    let folder = tempfile::tempdir().unwrap();
    let (code, shown, _) = run(billsync(&["doctor"]).env("BILLSYNC_HOME", folder.path().join("home")));
    assert_eq!(code, 0, "{shown}");
    for expected in [
        "STRIPE_WEBHOOK_SECRETS is not set: /webhooks/stripe answers 404",
        "fix: export CLERK_WEBHOOK_SECRETS=whsec_…",
        "STRIPE_API_KEY is not set: nobody asks Stripe",
        "CLERK_SECRET_KEY is not set: users are known by webhooks alone",
        "BILLSYNC_API_TOKENS is not set",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_scopes_and_refused_keys_are_told_by_name() {
    let (database, stripe, clerk) = (with_plans().await, stripe().await, FakeClerk::start().await);
    let (stripe_base, clerk_base) = (stripe.base(), clerk.base());
    for path in ["/v1/invoices", "/v1/checkout/sessions"] {
        stripe.fail_always(path, Fault::Status(403, ""));
    }
    let settings = |clerk_key| {
        [
            ("DATABASE_URL", database.url.as_str()),
            ("STRIPE_API_KEY", API_KEY),
            ("STRIPE_API_BASE", &stripe_base),
            ("CLERK_SECRET_KEY", clerk_key),
            ("CLERK_API_BASE", &clerk_base),
        ]
    };
    let diagnosis = doctor(&settings("sk_test_hunter2"), &[]);
    diagnosis.expect("error", "may not read invoices", "Invoices: Read");
    diagnosis.expect("error", "may not read checkout/sessions", "Checkout Sessions: Read");
    diagnosis.expect("error", "CLERK_SECRET_KEY cannot be used: Clerk does not accept", "export CLERK_SECRET_KEY=sk_live_");
    assert_eq!(diagnosis.trouble("stripe").len(), 2);
    assert!(!diagnosis.printed.contains("hunter2") && !diagnosis.printed.contains(API_KEY), "{}", diagnosis.printed);

    let offline = doctor(&settings("sk_test_hunter2"), &["--offline"]);
    assert_eq!((offline.trouble("stripe").len(), offline.trouble("clerk").len()), (0, 0));
    stripe.recover();
    let mended = doctor(&settings(fake_clerk::KEY), &[]);
    assert_eq!((mended.trouble("stripe").len(), mended.trouble("clerk").len()), (0, 0));

    stripe.delete("price_glow_up_yearly");
    doctor(&settings(fake_clerk::KEY), &[]).expect(
        "warning",
        "Stripe does not know the price price_glow_up_yearly of the plan glow_up",
        "correct the price of glow_up in plans.toml",
    );
}

#[tokio::test]
async fn providers_that_cannot_be_reached_are_told_as_that() {
    let database = with_plans().await;
    let diagnosis = doctor(
        &[
            ("DATABASE_URL", &database.url),
            ("STRIPE_API_KEY", "rk_test_hunter2"),
            ("STRIPE_API_BASE", "http://127.0.0.1:1"),
            ("CLERK_SECRET_KEY", "sk_test_hunter2"),
            ("CLERK_API_BASE", "http://127.0.0.1:1"),
        ],
        &[],
    );
    diagnosis.expect("error", "Stripe gave no answer", "does this machine reach Stripe");
    diagnosis.expect("error", "CLERK_SECRET_KEY cannot be used: Clerk", "CLERK_API_BASE");
    assert!(!diagnosis.printed.contains("hunter2"), "{}", diagnosis.printed);
}
