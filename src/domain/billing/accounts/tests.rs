//! Any order, any duplication, any batching: the same rows. Histories are generated with several users, customers and
//! subscriptions, bursts within a second, deletions, moving links and API reads, and shrink when they fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Accounts, Context};
use crate::domain::billing::facts::{
    Card, CheckoutSession, ClerkItem, ClerkUser, Customer, Fact, Invoice, PaymentMethod, Price, Subscription, SubscriptionItem,
};
use crate::domain::billing::plan::{Catalog, Plan};
use crate::domain::billing::stored::{OperatorLink, Owner};
use crate::domain::event::{Content, Event, ObjectKey, Payload, Provider, Snapshot, Source, TypeRank};
use crate::domain::rules::Rules;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
}

fn catalog() -> Catalog {
    let plan = |key: &str, order: i32| Plan {
        plan_key: key.into(),
        plan_name: key.into(),
        campaigns_limit: order,
        creators_limit: order,
        features: json!({}),
        price_monthly: None,
        price_yearly: None,
        stripe_price_id_monthly: Some(format!("price_{key}")),
        stripe_price_id_yearly: None,
        stripe_product_id: None,
        clerk_plan_slug: Some(key.into()),
        is_active: true,
        display_order: order,
    };
    Catalog::new(vec![plan("free", 0), plan("pro", 1), plan("max", 2)])
}

/// One generated event, before it has an id.
#[derive(Clone, Debug)]
struct Draft {
    provider: Provider,
    object_id: String,
    object_type: &'static str,
    owner_id: Option<String>,
    second: i64,
    terminal: bool,
    deletion: bool,
    stub: bool,
    from_read: bool,
    fact: Fact,
}

impl Draft {
    fn stripe(object_type: &'static str, object_id: String, owner: &str, second: i64, fact: Fact) -> Draft {
        Draft {
            provider: Provider::Stripe,
            object_id,
            object_type,
            owner_id: Some(owner.to_owned()),
            second,
            terminal: false,
            deletion: false,
            stub: false,
            from_read: false,
            fact,
        }
    }

    fn event(&self, index: usize) -> Event {
        let key = ObjectKey { provider: self.provider, account: String::new(), object_id: self.object_id.clone() };
        let id = format!("evt_{index:02}");
        let object: Arc<str> = serde_json::to_string(&self.fact).unwrap().into();
        let kept = !(self.deletion && self.stub);
        let snapshot = Snapshot {
            key,
            object_type: self.object_type.into(),
            event_id: id.clone(),
            as_of: at(self.second),
            terminal: self.terminal && kept,
            type_rank: if self.deletion { TypeRank::Deleted } else { TypeRank::Other },
            api_version: None,
            from_read: self.from_read,
            owner_id: self.owner_id.clone(),
            deletion: self.deletion,
            object: kept.then(|| object.clone()),
            previous_attributes: None,
            fact: kept.then(|| Arc::new(self.fact.clone())),
        };
        Event {
            provider: self.provider,
            id,
            event_type: format!("{}.updated", self.object_type),
            occurred_at: at(self.second),
            api_version: None,
            livemode: Some(false),
            account: String::new(),
            source: if self.from_read { Source::Reconcile } else { Source::Webhook },
            object_id: Some(self.object_id.clone()),
            owner_id: self.owner_id.clone(),
            customer_ids: Vec::new(),
            clerk_user_ids: Vec::new(),
            payload: Payload { text: object, fits_jsonb: true },
            content: Content::Snapshots(vec![snapshot]),
        }
    }
}

fn pick(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_map(str::to_owned)
}

fn user_id() -> impl Strategy<Value = String> {
    pick(&["user_1", "user_2", "user_3"])
}

fn customer_id() -> impl Strategy<Value = String> {
    pick(&["cus_1", "cus_2", "cus_3"])
}

fn second() -> impl Strategy<Value = i64> {
    0..4i64
}

fn clerk_user() -> impl Strategy<Value = Draft> {
    let parts = (user_id(), second(), prop::option::of(customer_id()), 0..3u8, 0..6u8, 0..3u8);
    parts.prop_map(|(id, second, claim, email, deletion, name)| {
        let email = format!("u{email}@example.com");
        let fact = Fact::ClerkUser(ClerkUser {
            created_at: Some(at(-1_000_000)),
            email: Some(email.clone()),
            full_name: Some(format!("Name {name}")),
            verified_emails: vec![email],
            stripe_customer_id: claim,
        });
        let deletion = deletion == 0;
        let owner = id.clone();
        let draft = Draft::stripe("user", id, &owner, second, fact);
        Draft { provider: Provider::Clerk, deletion, stub: deletion, ..draft }
    })
}

fn customer() -> impl Strategy<Value = Draft> {
    let parts = (customer_id(), second(), prop::option::of(user_id()), 0..3u8, 0..8u8, any::<bool>(), prop::option::of(0..3u8));
    parts.prop_map(|(id, second, user, email, deletion, stub, default)| {
        let fact = Fact::Customer(Customer {
            created: Some(at(-500)),
            email: Some(format!("u{email}@example.com")),
            clerk_user_id: user,
            default_payment_method: default.map(|n| format!("pm_{n}")),
            ..Customer::default()
        });
        let owner = id.clone();
        Draft { deletion: deletion == 0, stub, ..Draft::stripe("customer", id, &owner, second, fact) }
    })
}

fn subscription() -> impl Strategy<Value = Draft> {
    const STATUSES: &[&str] = &["incomplete", "trialing", "active", "past_due", "unpaid", "paused", "canceled"];
    let parts = (0..4u8, customer_id(), second(), pick(STATUSES), prop::option::of(user_id()));
    let more = (pick(&["price_pro", "price_max", "price_unknown"]), any::<bool>(), 0..10u8, prop::option::of(0..3i64));
    (parts, more).prop_map(|((n, customer, second, status, user), (price, cancel, read, trial))| {
        let terminal = status == "canceled";
        let item = SubscriptionItem {
            id: Some("si_1".into()),
            price: Price { id: Some(price), ..Price::default() },
            current_period_start: Some(at(-100)),
            current_period_end: Some(at(2_000_000)),
        };
        let fact = Fact::Subscription(Subscription {
            customer: customer.clone(),
            status,
            created: Some(at(i64::from(n) - 400)),
            items: vec![item],
            billing_cycle_anchor: Some(at(-100)),
            cancel_at_period_end: cancel,
            ended_at: terminal.then(|| at(0)),
            trial_start: trial.map(|_| at(-400)),
            trial_end: trial.map(|days| at(days * 86_400 - 200_000)),
            clerk_user_id: user,
            ..Subscription::default()
        });
        let draft = Draft::stripe("subscription", format!("sub_{n}"), &customer, second, fact);
        Draft { terminal, from_read: read == 0, ..draft }
    })
}

fn payment_method() -> impl Strategy<Value = Draft> {
    (0..3u8, customer_id(), second(), 0..5u8).prop_map(|(n, customer, second, detached)| {
        let detached = detached == 0;
        let card = Card { last_4: Some("4242".into()), brand: Some("visa".into()), exp_month: Some(12), exp_year: Some(2030) };
        let fact = Fact::PaymentMethod(PaymentMethod {
            customer: (!detached).then(|| customer.clone()),
            kind: "card".into(),
            created: Some(at(-300)),
            card: Some(card),
            address: None,
            detached,
        });
        Draft { terminal: detached, ..Draft::stripe("payment_method", format!("pm_{n}"), &customer, second, fact) }
    })
}

fn session() -> impl Strategy<Value = Draft> {
    let parts = (0..3u8, customer_id(), second(), pick(&["open", "complete", "expired"]), prop::option::of(user_id()));
    parts.prop_map(|(n, customer, second, status, user)| {
        let fact = Fact::CheckoutSession(CheckoutSession {
            customer: Some(customer.clone()),
            subscription: Some(format!("sub_{n}")),
            mode: Some("subscription".into()),
            status,
            created: Some(at(i64::from(n) - 300)),
            clerk_user_id: user,
            payment_link: n == 2,
            plan_key: Some("pro".into()),
        });
        Draft::stripe("checkout.session", format!("cs_{n}"), &customer, second, fact)
    })
}

fn invoice() -> impl Strategy<Value = Draft> {
    let parts = (0..5u8, 0..4u8, customer_id(), second(), pick(&["draft", "open", "paid", "void"]), 0..4i64, 0..8u8);
    parts.prop_map(|(n, sub, customer, second, status, start, deletion)| {
        let deletion = deletion == 0;
        let paid = status == "paid";
        let fact = Fact::Invoice(Invoice {
            customer: Some(customer.clone()),
            subscription: Some(format!("sub_{sub}")),
            status,
            created: Some(at(start - 10)),
            finalized_at: Some(at(start)),
            paid_at: paid.then(|| at(start + i64::from(n))),
            attempt_count: 1,
            line_start: Some(at(start * 86_400 - 200_000)),
            clerk_user_id: (n == 4).then(|| "user_3".into()),
        });
        Draft { deletion, ..Draft::stripe("invoice", format!("in_{n}"), &customer, second, fact) }
    })
}

fn clerk_item() -> impl Strategy<Value = Draft> {
    const STATUSES: &[&str] = &["active", "past_due", "canceled", "ended", "upcoming"];
    (0..2u8, user_id(), second(), pick(STATUSES), pick(&["free", "pro", "max"])).prop_map(|(n, user, second, status, slug)| {
        let fact = Fact::ClerkItem(ClerkItem {
            user_id: user.clone(),
            status,
            created_at: Some(at(-600)),
            is_default_plan: slug == "free",
            plan_slug: Some(slug),
            period_start: Some(at(-600)),
            period_end: Some(at(1_000_000)),
            ..ClerkItem::default()
        });
        let draft = Draft::stripe("commerce_subscription_item", format!("csub_item_{n}"), &user, second, fact);
        Draft { provider: Provider::Clerk, ..draft }
    })
}

fn draft() -> impl Strategy<Value = Draft> {
    prop_oneof![
        4 => clerk_user(), 4 => customer(), 5 => subscription(), 3 => payment_method(), 2 => session(), 3 => invoice(), 2 => clerk_item()
    ]
}

/// Folds in that order, in batches that end where `cut` says.
fn fold(events: &[Event], operator: &[OperatorLink], rules: &Rules, mut cut: impl FnMut() -> bool) -> Accounts {
    let catalog = catalog();
    let context = Context { catalog: &catalog, rules, now: at(1_000) };
    let mut accounts = Accounts::default();
    for link in operator {
        accounts.operator_links.insert(link.customer_id.clone(), link.clone());
    }
    let mut ledger = BTreeSet::new();
    for event in events {
        if ledger.insert(event.key()) {
            accounts.apply(event, context);
        }
        if cut() {
            accounts = Accounts::new(accounts.into_loaded());
        }
    }
    accounts
}

/// Everything that has to converge: all but the usage period, which tells what happened when.
fn comparable(accounts: &Accounts) -> Value {
    let users = accounts.users.values().map(|user| {
        let rows = &user.current.rows;
        let limits = (rows.usage.plan_campaigns_limit, rows.usage.plan_creators_limit, &rows.usage.plan_features);
        json!([user.current.user_id, rows.user, rows.subscription, rows.billing, limits, rows.system])
    });
    // A claim that was taken back leaves a row behind that says nothing.
    let says_nothing = |o: &Owner| o.clerk_user_id.is_none() && o.newest.is_none() && !o.has_facts;
    let owners = accounts.owners.iter().filter(|(_, o)| !says_nothing(o)).map(|(id, o)| {
        let newest = o.newest.as_ref().map(|newest| (&newest.event_id, newest.at, newest.failed));
        (id, json!([o.clerk_user_id, o.linked_by, newest, o.claimed_customer_id, o.emails, o.has_facts]))
    });
    let objects = accounts.objects.iter().map(|(key, state)| {
        let object = &state.object;
        let winner = object.winner.as_ref().map(|winner| (&winner.event_id, winner.as_of, winner.terminal));
        (&key.object_id, json!([winner, object.owner_id, object.fact, object.ambiguous, object.deleted_at]))
    });
    json!([users.collect::<Vec<_>>(), owners.collect::<BTreeMap<_, _>>(), objects.collect::<BTreeMap<_, _>>()])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history_in_any_order_ends_in_the_same_rows(
        drafts in prop::collection::vec(draft(), 1..14),
        nobody in any::<bool>(),
        by_email in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let events: Vec<Event> = drafts.iter().enumerate().map(|(index, draft)| draft.event(index)).collect();
        let link = OperatorLink { customer_id: "cus_3".into(), clerk_user_id: None };
        let operator: &[OperatorLink] = if nobody { &[link] } else { &[] };
        let rules = Rules { link_by_verified_email: by_email, ..Rules::default() };
        let expected = comparable(&fold(&events, operator, &rules, || false));
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..4 {
            let mut shuffled = events.clone();
            for _ in 0..random.usize(..4) {
                shuffled.push(events[random.usize(..events.len())].clone());
            }
            random.shuffle(&mut shuffled);
            let accounts = fold(&shuffled, operator, &rules, || random.bool());
            prop_assert_eq!(&comparable(&accounts), &expected);
        }
        // Projecting once more, from what is stored, changes nothing.
        let mut accounts = fold(&events, operator, &rules, || true);
        let catalog = catalog();
        let user_ids: Vec<String> = accounts.user_ids().map(str::to_owned).collect();
        for user_id in user_ids {
            let context = Context { catalog: &catalog, rules: &rules, now: at(1_000) };
            prop_assert_eq!(accounts.reproject(&user_id, context), vec![]);
        }
    }
}

#[test]
fn an_event_ahead_of_our_clock_raises_an_alert() {
    let fact = Fact::Customer(Customer::default());
    let mut event = Draft::stripe("customer", "cus_1".into(), "cus_1", 0, fact).event(0);
    event.livemode = Some(true);
    let (catalog, rules) = (catalog(), Rules::default());
    let alerts_at = |now| {
        let mut accounts = Accounts::default();
        accounts.apply(&event, Context { catalog: &catalog, rules: &rules, now });
        accounts.into_changes().alerts.iter().map(|alert| alert.name).collect::<Vec<_>>()
    };
    assert_eq!(alerts_at(at(0) - TimeDelta::minutes(10)), Vec::<&str>::new());
    assert_eq!(alerts_at(at(-1) - TimeDelta::minutes(10)), vec!["event_from_the_future"]);
}
