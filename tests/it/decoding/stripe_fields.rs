//! The facts of each Stripe object, in every dialect.

use billsync::domain::billing::facts::{Address, Card, Price};
use billsync::domain::event::Source;
use billsync::domain::rules::Rules;
use serde_json::{Value, json};

use super::{at, fact_as, stripe_body, stripe_event, unreadable, verified};

#[test]
fn a_customer() {
    let event = stripe_event(
        "customer.created",
        json!({"id": "cus_1", "object": "customer", "email": "Ada@Example.com", "created": 1_600_000_000, "test_clock": "clock_1",
            "metadata": {"clerk_user_id": "user_1"}, "address": {"city": "", "country": "CH", "postal_code": "8001", "line1": "x"},
            "default_source": {"id": "card_1", "object": "card"},
            "invoice_settings": {"default_payment_method": {"id": "pm_1", "object": "payment_method"}}}),
    );
    let customer = fact_as!(event, Customer);
    assert_eq!((customer.email.as_deref(), customer.created), (Some("ada@example.com"), at(1_600_000_000)));
    assert_eq!(customer.clerk_user_id.as_deref(), Some("user_1"));
    assert_eq!(customer.default_payment_method.as_deref(), Some("pm_1"));
    assert_eq!(customer.default_source.as_deref(), Some("card_1"));
    assert_eq!(customer.test_clock.as_deref(), Some("clock_1"));
    let address = Address { city: None, country: Some("CH".to_owned()), postal_code: Some("8001".to_owned()) };
    assert_eq!(customer.address, Some(address));
    assert_eq!(
        (event.customer_ids.as_slice(), event.clerk_user_ids.as_slice()),
        (&["cus_1".to_owned()][..], &["user_1".to_owned()][..])
    );
    let empty =
        stripe_event("customer.created", json!({"id": "cus_1", "object": "customer", "email": "", "address": {"line1": "x"}}));
    let empty = fact_as!(empty, Customer);
    assert!(empty.email.is_none() && empty.address.is_none());
}

#[test]
fn the_clerk_user_in_metadata() {
    let rules =
        |keys: &[&str]| Rules { link_metadata_keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..Rules::default() };
    let read = |rules: &Rules, metadata: Value| {
        let body = stripe_body("customer.updated", json!({"id": "cus_1", "object": "customer", "metadata": metadata}));
        let event = billsync::domain::stripe::decode_event(&verified(body.to_string().as_bytes()), Source::Webhook, rules);
        let event = event.expect("an event");
        let found = fact_as!(event, Customer).clerk_user_id;
        assert_eq!(event.clerk_user_ids.first(), found.as_ref());
        found
    };
    let default = Rules::default();
    let found = |metadata| read(&default, metadata);
    assert_eq!(found(json!({"clerk_user_id": "anything"})).as_deref(), Some("anything"));
    assert_eq!(found(json!({"clerkUserId": "anything"})).as_deref(), Some("anything"));
    assert_eq!(found(json!({"clerkUserId": "b", "clerk_user_id": "a"})).as_deref(), Some("a"));
    assert_eq!(found(json!({"clerk_user_id": "", "clerkUserId": "b"})).as_deref(), Some("b"));
    assert_eq!(found(json!({"user_id": "user_1"})).as_deref(), Some("user_1"));
    assert_eq!(found(json!({"userId": "user_1"})).as_deref(), Some("user_1"));
    assert_eq!(found(json!({"user_id": "42", "userId": "user_1"})).as_deref(), Some("user_1"));
    assert_eq!(found(json!({"user_id": "user_1", "clerk_user_id": "user_2"})).as_deref(), Some("user_2"));
    for nothing in
        [json!({"user_id": "42"}), json!({"userId": ""}), json!({"clerk_user_id": 1}), json!({}), json!(null), json!("x")]
    {
        assert_eq!(found(nothing), None);
    }
    let own = rules(&["account_id"]);
    assert_eq!(read(&own, json!({"account_id": "a", "clerkUserId": "b"})).as_deref(), Some("a"));
    assert_eq!(read(&own, json!({"clerkUserId": "b"})).as_deref(), Some("b"));
    assert_eq!(read(&own, json!({"clerk_user_id": "b"})), None);
    assert_eq!(read(&rules(&["user_id"]), json!({"user_id": "42"})).as_deref(), Some("42"));
}

/// The same subscription as three API versions write it.
fn subscription_dialects() -> [Value; 3] {
    let newest = json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "trialing", "created": 1_600_000_000,
        "billing_cycle_anchor": 1_600_600_000, "cancel_at": 1_600_600_000, "cancel_at_period_end": false, "canceled_at": 1_600_000_100,
        "trial_start": 1_600_000_000, "trial_end": 1_600_600_000, "default_payment_method": "pm_1",
        "collection_method": "charge_automatically", "metadata": {"clerk_user_id": "user_1"}, "test_clock": "clock_1",
        "items": {"data": [{"id": "si_1", "object": "subscription_item", "current_period_start": 1_600_000_000,
            "current_period_end": 1_600_600_000,
            "price": {"id": "price_1", "object": "price", "product": "prod_1", "lookup_key": "pro", "metadata": {"plan_key": "glow_up"}}}]}});
    let mut middle = newest.clone();
    middle["current_period_start"] = json!(1_600_000_000);
    middle["current_period_end"] = json!(1_600_600_000);
    let item = middle["items"]["data"][0].as_object_mut().expect("an item");
    item.retain(|name, _| !name.starts_with("current_period"));
    middle["customer"] = json!({"id": "cus_1", "object": "customer", "email": "ignored@example.com"});
    middle["default_payment_method"] = json!({"id": "pm_1", "object": "payment_method"});
    middle["items"]["data"][0]["price"]["product"] = json!({"id": "prod_1", "object": "product"});
    middle["test_clock"] = json!({"id": "clock_1", "object": "test_helpers.test_clock"});
    let mut oldest = middle.clone();
    let price = oldest["items"]["data"][0].as_object_mut().expect("an item").remove("price");
    oldest["items"]["data"][0]["plan"] = price.expect("a price");
    oldest["billing"] = oldest.as_object_mut().expect("an object").remove("collection_method").expect("a method");
    [newest, middle, oldest]
}

#[test]
fn a_subscription_in_three_dialects() {
    let [newest, middle, oldest] =
        subscription_dialects().map(|object| fact_as!(stripe_event("customer.subscription.updated", object), Subscription));
    let price = Price {
        id: Some("price_1".to_owned()),
        product: Some("prod_1".to_owned()),
        lookup_key: Some("pro".to_owned()),
        plan_key: Some("glow_up".to_owned()),
    };
    assert_eq!(newest.items[0].price, price);
    assert_eq!(newest.items[0].current_period_end, at(1_600_600_000));
    assert_eq!((newest.current_period_end, middle.current_period_end), (None, at(1_600_600_000)));
    assert_eq!((newest.status.as_str(), newest.customer.as_str()), ("trialing", "cus_1"));
    assert_eq!((newest.trial_start, newest.trial_end), (at(1_600_000_000), at(1_600_600_000)));
    assert_eq!((newest.cancel_at, newest.canceled_at, newest.ended_at), (at(1_600_600_000), at(1_600_000_100), None));
    assert_eq!((newest.billing_cycle_anchor, newest.created), (at(1_600_600_000), at(1_600_000_000)));
    assert_eq!(newest.default_payment_method.as_deref(), Some("pm_1"));
    assert_eq!(newest.collection_method.as_deref(), Some("charge_automatically"));
    assert_eq!((newest.clerk_user_id.as_deref(), newest.test_clock.as_deref()), (Some("user_1"), Some("clock_1")));
    assert!(!newest.pause_collection && !newest.cancel_at_period_end && newest.pending_update.is_none());
    assert_eq!(middle, oldest);
    let mut period_moved = middle.clone();
    (period_moved.current_period_start, period_moved.current_period_end) = (None, None);
    period_moved.items[0].current_period_start = at(1_600_000_000);
    period_moved.items[0].current_period_end = at(1_600_600_000);
    assert_eq!(newest, period_moved);
}

fn subscription_with(fields: Value) -> Value {
    let mut object = json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active", "created": 1_600_000_000,
        "items": {"data": []}});
    for (name, value) in fields.as_object().expect("an object") {
        object[name] = value.clone();
    }
    object
}

#[test]
fn a_subscription_of_one_plan() {
    let plan = json!({"id": "plan_1", "object": "plan", "product": "prod_1", "metadata": {}});
    for items in [json!(null), json!({"data": []}), json!("odd")] {
        let event = stripe_event("customer.subscription.updated", subscription_with(json!({"items": items, "plan": plan})));
        let subscription = fact_as!(event, Subscription);
        assert_eq!(subscription.items.len(), 1);
        assert_eq!(subscription.items[0].price.id.as_deref(), Some("plan_1"));
    }
    let both = json!({"data": [{"id": "si_1", "price": "price_1"}]});
    let event = stripe_event("customer.subscription.updated", subscription_with(json!({"items": both, "plan": plan})));
    assert_eq!(fact_as!(event, Subscription).items[0].price.id.as_deref(), Some("price_1"));
    for (items, reason) in [
        (json!(null), "data.object.items.data: missing"),
        (json!({}), "data.object.items.data: missing"),
        (json!({"data": {}}), "data.object.items.data: not an array"),
    ] {
        let event = stripe_event("customer.subscription.updated", subscription_with(json!({"items": items})));
        assert_eq!(unreadable(&event), reason);
    }
}

#[test]
fn the_rest_of_a_subscription() {
    let event = stripe_event(
        "customer.subscription.updated",
        subscription_with(json!({"status": "a_new_one", "cancel_at_period_end": true, "ended_at": 1_600_000_001,
            "pause_collection": {"behavior": "void", "resumes_at": null}, "default_source": "src_1",
            "pending_update": {"expires_at": 1_600_000_002, "subscription_items": [{"id": "si_1", "price": {"id": "price_2"}}, 7]}})),
    );
    let subscription = fact_as!(event, Subscription);
    assert_eq!(subscription.status, "a_new_one");
    assert!(subscription.cancel_at_period_end && subscription.pause_collection);
    assert_eq!((subscription.ended_at, subscription.default_source.as_deref()), (at(1_600_000_001), Some("src_1")));
    let update = subscription.pending_update.expect("a pending update");
    assert_eq!((update.expires_at, update.items.len()), (at(1_600_000_002), 1));
    assert_eq!(update.items[0].price.id.as_deref(), Some("price_2"));
    // Times that no calendar holds are unknown, the event is not lost for them.
    let far = json!({"created": 99_999_999_999_999_i64, "trial_end": 1e300, "canceled_at": -99_999_999_999_999_i64, "ended_at": "soon"});
    let far = fact_as!(stripe_event("customer.subscription.updated", subscription_with(far)), Subscription);
    assert_eq!((far.created, far.trial_end, far.canceled_at, far.ended_at), (None, None, None, None));
}

#[test]
fn a_schedule() {
    let schedule = json!({"id": "sub_sched_1", "object": "subscription_schedule", "customer": "cus_1", "status": "active",
        "created": 1_600_000_000, "subscription": {"id": "sub_1"}, "released_subscription": null,
        "phases": [{"start_date": 1_600_000_000, "items": [{"price": "price_1"}, {"price": {"id": "price_2", "product": "prod_2"}}]},
            {"start_date": 1_700_000_000, "plans": [{"plan": "plan_1"}]}]});
    let fact = fact_as!(stripe_event("subscription_schedule.updated", schedule.clone()), SubscriptionSchedule);
    assert_eq!(
        (fact.customer.as_deref(), fact.subscription.as_deref(), fact.status.as_str()),
        (Some("cus_1"), Some("sub_1"), "active")
    );
    assert_eq!((fact.phases[0].start_date, fact.phases[1].start_date), (at(1_600_000_000), at(1_700_000_000)));
    let ids = |phase: usize| fact.phases[phase].prices.iter().filter_map(|price| price.id.as_deref()).collect::<Vec<_>>();
    assert_eq!((ids(0), ids(1)), (vec!["price_1", "price_2"], vec!["plan_1"]));
    let mut released = schedule;
    released["subscription"] = json!(null);
    released["released_subscription"] = json!("sub_2");
    let fact = fact_as!(stripe_event("subscription_schedule.released", released), SubscriptionSchedule);
    assert_eq!(fact.subscription.as_deref(), Some("sub_2"));
}

#[test]
fn payment_methods_cards_and_sources() {
    let method = json!({"id": "pm_1", "object": "payment_method", "type": "card", "customer": "cus_1", "created": 1_600_000_000,
        "billing_details": {"address": {"city": "Zurich", "country": "CH", "postal_code": "8001"}},
        "card": {"brand": "amex", "last4": "0005", "exp_month": 12, "exp_year": 2030, "wallet": {"type": "apple_pay"}}});
    let legacy = json!({"id": "card_1", "object": "card", "customer": "cus_1", "created": 1_600_000_000, "brand": "American Express",
        "last4": "0005", "exp_month": 12, "exp_year": 2030, "address_city": "Zurich", "address_country": "CH", "address_zip": "8001"});
    let source = json!({"id": "src_1", "object": "source", "type": "card", "customer": "cus_1", "created": 1_600_000_000,
        "owner": {"address": {"city": "Zurich", "country": "CH", "postal_code": "8001"}},
        "card": {"brand": "American Express", "last4": "0005", "exp_month": 12, "exp_year": 2030}});
    let method = fact_as!(stripe_event("payment_method.attached", method), PaymentMethod);
    assert_eq!((method.customer.as_deref(), method.kind.as_str(), method.detached), (Some("cus_1"), "card", false));
    assert_eq!(method.address.as_ref().and_then(|address| address.postal_code.as_deref()), Some("8001"));
    let card =
        Card { last_4: Some("0005".to_owned()), brand: Some("amex".to_owned()), exp_month: Some(12), exp_year: Some(2030) };
    assert_eq!(method.card, Some(card));
    assert_eq!(fact_as!(stripe_event("customer.source.created", legacy), PaymentMethod), method);
    assert_eq!(fact_as!(stripe_event("customer.source.created", source), PaymentMethod), method);
    let debit =
        json!({"id": "pm_2", "object": "payment_method", "type": "us_bank_account", "us_bank_account": {"last4": "6789"}});
    let debit = fact_as!(stripe_event("payment_method.attached", debit), PaymentMethod);
    assert_eq!((debit.kind.as_str(), debit.card, debit.customer), ("us_bank_account", None, None));
}

#[test]
fn brands_are_normalised() {
    for (written, expected) in [
        ("American Express", "amex"),
        ("Diners Club", "diners"),
        ("Discover", "discover"),
        ("JCB", "jcb"),
        ("MasterCard", "mastercard"),
        ("UnionPay", "unionpay"),
        ("Visa", "visa"),
        ("Unknown", "unknown"),
        ("Some New Brand", "some new brand"),
        ("amex", "amex"),
        ("eftpos_au", "eftpos_au"),
        ("Cartes Bancaires", "cartes_bancaires"),
        ("", ""),
    ] {
        let card = json!({"id": "card_1", "object": "card", "brand": written});
        let card = fact_as!(stripe_event("customer.source.created", card), PaymentMethod).card.expect("a card");
        assert_eq!(card.brand.unwrap_or_default(), expected);
    }
}

/// The same paid invoice before and after basil, and one from before there were statuses.
fn invoice_dialects() -> [Value; 3] {
    let line = |start: i64, proration: bool| {
        json!({"id": "il_1", "period": {"start": start, "end": start + 1}, "parent": {"type": "subscription_item_details",
            "subscription_item_details": {"subscription": "sub_1", "proration": proration}, "invoice_item_details": null}})
    };
    let newest = json!({"id": "in_1", "object": "invoice", "customer": "cus_1", "status": "paid", "created": 1_600_000_000, "attempt_count": 2,
        "metadata": {}, "parent": {"subscription_details": {"subscription": "sub_1", "metadata": {"clerk_user_id": "user_1"}}},
        "status_transitions": {"finalized_at": 1_600_000_001, "paid_at": 1_600_000_002},
        "lines": {"data": [line(1_600_000_000, false), line(1_600_000_500, false), line(1_600_000_900, true)]}});
    let mut middle = newest.clone();
    let parent = middle.as_object_mut().expect("an object").remove("parent").expect("a parent");
    middle["subscription"] = json!({"id": "sub_1", "object": "subscription"});
    middle["subscription_details"] = json!({"metadata": parent["subscription_details"]["metadata"]});
    middle["paid"] = json!(true);
    let old_line = |start: i64, proration: bool, subscription: Value| json!({"id": "il_1", "period": {"start": start}, "proration": proration, "subscription": subscription, "price": {"id": "price_1"}});
    middle["lines"]["data"] = json!([
        old_line(1_600_000_000, false, json!("sub_1")),
        old_line(1_600_000_500, false, json!(null)),
        old_line(1_600_000_900, true, json!("sub_1"))
    ]);
    let mut oldest = middle.clone();
    oldest.as_object_mut().expect("an object").remove("status");
    [newest, middle, oldest]
}

#[test]
fn an_invoice_in_three_dialects() {
    for dialect in invoice_dialects() {
        assert_eq!(stripe_event("invoice.paid", dialect).clerk_user_ids, ["user_1"]);
    }
    let [newest, middle, oldest] = invoice_dialects().map(|object| fact_as!(stripe_event("invoice.paid", object), Invoice));
    assert_eq!(
        (newest.customer.as_deref(), newest.subscription.as_deref(), newest.status.as_str()),
        (Some("cus_1"), Some("sub_1"), "paid")
    );
    assert_eq!((newest.created, newest.finalized_at, newest.paid_at), (at(1_600_000_000), at(1_600_000_001), at(1_600_000_002)));
    assert_eq!(newest.attempt_count, 2);
    assert_eq!(newest.line_start, at(1_600_000_500), "the latest start, prorations aside");
    assert_eq!(newest.clerk_user_id.as_deref(), Some("user_1"));
    assert_eq!(newest, middle);
    assert_eq!(middle, oldest);
}

#[test]
fn the_status_of_an_invoice() {
    let status = |fields: Value| {
        let mut object = json!({"id": "in_1", "object": "invoice"});
        for (name, value) in fields.as_object().expect("an object") {
            object[name] = value.clone();
        }
        stripe_event("invoice.updated", object)
    };
    for (fields, expected) in [
        (json!({"status": "open", "paid": true}), "open"),
        (json!({"status": "a_new_one"}), "a_new_one"),
        (json!({"paid": true}), "paid"),
        (json!({"paid": false}), "open"),
        (json!({"paid": false, "forgiven": true, "closed": true}), "uncollectible"),
        (json!({"paid": false, "closed": true}), "void"),
        (json!({"status": 1, "paid": true}), "paid"),
    ] {
        assert_eq!(fact_as!(status(fields), Invoice).status, expected);
    }
    assert_eq!(unreadable(&status(json!({}))), "data.object.status: missing");
    assert_eq!(unreadable(&status(json!({"status": 1, "paid": "yes"}))), "data.object.status: not a string");
}

#[test]
fn the_lines_of_an_invoice() {
    let lines = |lines: Value, subscription: Value| {
        let object = json!({"id": "in_1", "object": "invoice", "status": "open", "subscription": subscription, "lines": lines});
        fact_as!(stripe_event("invoice.updated", object), Invoice).line_start
    };
    let item =
        json!({"period": {"start": 10}, "parent": {"invoice_item_details": {"subscription": "sub_2", "proration": false}}});
    let proration =
        json!({"period": {"start": 99}, "parent": {"invoice_item_details": {"subscription": "sub_2", "proration": true}}});
    let starts = lines(
        json!({"data": [item, proration, {"period": {"start": 5}}, 7, {"period": 1}, {"period": {"start": "x"}}]}),
        json!("sub_1"),
    );
    assert_eq!(starts, at(5), "a line of another subscription is not the invoice's");
    for odd in [json!(null), json!([]), json!({"data": {}}), json!("x")] {
        assert_eq!(lines(odd, json!("sub_1")), None);
    }
    assert_eq!(lines(json!({"data": [{"period": {"start": 5}}]}), json!(null)), None, "a line of nobody");
    let billed_alone = json!({"period": {"start": 5}, "parent": {"invoice_item_details": {"subscription": "sub_1"}}});
    assert_eq!(lines(json!({"data": [billed_alone]}), json!(null)), None, "a one-off invoice of an item of a subscription");
}

#[test]
fn a_checkout_session() {
    let session = |fields: Value| {
        let mut object = json!({"id": "cs_1", "object": "checkout.session", "customer": "cus_1", "subscription": "sub_1", "mode": "subscription",
            "status": "complete", "created": 1_600_000_000, "payment_link": null});
        for (name, value) in fields.as_object().expect("an object") {
            object[name] = value.clone();
        }
        stripe_event("checkout.session.completed", object)
    };
    let event = session(json!({"client_reference_id": "user_1", "metadata": {"clerk_user_id": "user_2", "plan_key": "glow_up"}}));
    assert_eq!(event.clerk_user_ids, ["user_1", "user_2"]);
    let fact = fact_as!(event, CheckoutSession);
    assert_eq!(
        (fact.customer.as_deref(), fact.subscription.as_deref(), fact.mode.as_deref()),
        (Some("cus_1"), Some("sub_1"), Some("subscription"))
    );
    assert_eq!((fact.status.as_str(), fact.created, fact.payment_link), ("complete", at(1_600_000_000), false));
    assert_eq!((fact.clerk_user_id.as_deref(), fact.plan_key.as_deref()), (Some("user_1"), Some("glow_up")));
    let fact = fact_as!(
        session(json!({"client_reference_id": "", "metadata": {"clerk_user_id": "user_2"}, "payment_link": "plink_1"})),
        CheckoutSession
    );
    assert_eq!((fact.clerk_user_id.as_deref(), fact.payment_link), (Some("user_2"), true));
}

#[test]
fn payment_intents_and_test_clocks() {
    let intent = json!({"id": "pi_1", "object": "payment_intent", "customer": "cus_1", "created": 1_600_000_000, "metadata": {"userId": "user_1"}});
    let intent = fact_as!(stripe_event("payment_intent.succeeded", intent), PaymentIntent);
    assert_eq!(
        (intent.customer.as_deref(), intent.created, intent.clerk_user_id.as_deref()),
        (Some("cus_1"), at(1_600_000_000), Some("user_1"))
    );
    let clock = json!({"id": "clock_1", "object": "test_helpers.test_clock", "frozen_time": 1_600_000_000});
    let event = stripe_event("test_helpers.test_clock.ready", clock);
    assert_eq!((fact_as!(event, TestClock).frozen_time, event.owner_id), (at(1_600_000_000), None));
}

#[test]
fn ids_that_no_index_could_hold_are_no_ids() {
    let long = "x".repeat(256);
    let event = stripe_event("customer.updated", json!({"id": long, "object": "customer"}));
    assert_eq!(unreadable(&event), "data.object.id: too long for an id");
    let event = stripe_event("charge.updated", json!({"id": "ch_1", "object": "charge", "customer": long}));
    assert!(event.customer_ids.is_empty());
}
