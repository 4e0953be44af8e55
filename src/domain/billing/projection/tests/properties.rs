//! What holds for every set of facts: nothing changes before `next_change_at`, and no fact can make the projection panic.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::domain::billing::facts::{
    Card, CheckoutSession, ClerkItemTrial, ClerkPaymentAttempt, PendingUpdate, SchedulePhase, SubscriptionSchedule,
};
use crate::domain::billing::rows::UsageColumns;

/// Instants on a grid of six hours around the days that the facts speak of, so that they often coincide.
fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    (0..160_i64).prop_map(|n| t("2025-03-01T00:00:00Z") + TimeDelta::hours(6 * n))
}

fn plan() -> impl Strategy<Value = &'static str> {
    select(&["free", "glow_up", "viral_surge", "fame_flex", "unknown"][..])
}

fn stripe_item() -> impl Strategy<Value = SubscriptionItem> {
    (plan(), of(instant())).prop_map(|(plan, end)| SubscriptionItem { current_period_end: end, ..item(plan) })
}

const STATUSES: [&str; 9] =
    ["incomplete", "incomplete_expired", "trialing", "active", "past_due", "canceled", "unpaid", "paused", "odd"];

fn stripe_subscription() -> impl Strategy<Value = Subscription> {
    let dates = (of(instant()), of(instant()), of(instant()), of(instant()), of(instant()), of(instant()), of(instant()));
    let pending = of((of(instant()), vec(stripe_item(), 0..2)));
    (select(&STATUSES[..]), vec(stripe_item(), 0..3), dates, any::<(bool, bool, bool)>(), pending).prop_map(
        |(status, items, dates, flags, pending)| Subscription {
            items,
            created: dates.0,
            trial_start: dates.1,
            trial_end: dates.2,
            cancel_at: dates.3,
            ended_at: dates.4.filter(|_| ["canceled", "incomplete_expired"].contains(&status)),
            billing_cycle_anchor: dates.5,
            current_period_end: dates.6,
            cancel_at_period_end: flags.0,
            pause_collection: flags.1,
            default_payment_method: flags.2.then(|| "pm_1".to_owned()),
            pending_update: pending.map(|(expires_at, items)| PendingUpdate { expires_at, items }),
            ..subscription(status, "none")
        },
    )
}

fn schedule() -> impl Strategy<Value = SubscriptionSchedule> {
    let phase = (of(instant()), plan());
    (select(&["active", "released"][..]), of(instant()), vec(phase, 0..4)).prop_map(|(status, created, phases)| {
        let phase = |(start_date, plan)| SchedulePhase { start_date, prices: vec![item(plan).price] };
        SubscriptionSchedule {
            subscription: Some("sub_1".to_owned()),
            status: status.to_owned(),
            created,
            phases: phases.into_iter().map(phase).collect(),
            ..SubscriptionSchedule::default()
        }
    })
}

fn invoice() -> impl Strategy<Value = Invoice> {
    let status = select(&["draft", "open", "paid", "void"][..]);
    (status, of(instant()), of(instant()), of(instant())).prop_map(|(status, start, finalized_at, paid_at)| Invoice {
        subscription: Some("sub_1".to_owned()),
        status: status.to_owned(),
        finalized_at,
        paid_at,
        line_start: start,
        ..Invoice::default()
    })
}

fn clerk_item() -> impl Strategy<Value = ClerkItem> {
    let status = select(&["active", "past_due", "canceled", "incomplete", "upcoming", "ended", "odd"][..]);
    (status, plan(), any::<(bool, bool)>(), of(instant()), of(instant()), of(instant())).prop_map(
        |(status, plan, flags, created_at, period_start, period_end)| ClerkItem {
            user_id: USER.to_owned(),
            status: status.to_owned(),
            plan_slug: Some(plan.to_owned()),
            is_default_plan: flags.0 && plan == "free",
            is_free_trial: flags.1,
            created_at,
            period_start,
            period_end,
            past_due_at: period_start,
            ..ClerkItem::default()
        },
    )
}

/// The facts of a customer.
fn customer() -> impl Strategy<Value = CustomerFacts> {
    let exp = of((-1..14_i32, 2024..2027_i32));
    let session = (select(&["open", "complete", "expired"][..]), plan(), of(instant()));
    let parts = (btree_map(1..4_u8, stripe_subscription(), 0..3), vec(schedule(), 0..3), vec(invoice(), 0..3), exp, of(session));
    (parts, of(instant()), any::<bool>()).prop_map(
        |((subscriptions, schedules, invoices, exp, session), deleted_at, is_deleted)| {
            let mut world = World::with_customer();
            for (n, subscription) in subscriptions {
                world.put(&format!("sub_{n}"), subscription);
            }
            for (n, invoice) in invoices.into_iter().enumerate() {
                world.put_invoice(&format!("in_{n}"), invoice);
            }
            if let Some((exp_month, exp_year)) = exp {
                let card = Card { exp_month: Some(exp_month), exp_year: Some(exp_year), ..Card::default() };
                let customer = Some("cus_1".to_owned());
                world.put_method("pm_1", PaymentMethod { customer, card: Some(card), ..PaymentMethod::default() });
            }
            let mut facts = world.customers.remove(0);
            for (n, schedule) in schedules.into_iter().enumerate() {
                facts.schedules.insert(format!("sched_{n}"), known(&format!("sched_{n}"), schedule));
            }
            if let Some((status, plan, created)) = session {
                let session = CheckoutSession {
                    mode: Some("subscription".to_owned()),
                    status: status.to_owned(),
                    plan_key: Some(plan.to_owned()),
                    created,
                    ..CheckoutSession::default()
                };
                facts.sessions.insert("cs_1".to_owned(), known("cs_1", session));
            }
            facts.deleted_at = deleted_at.filter(|_| is_deleted);
            facts
        },
    )
}

fn clerk_facts() -> impl Strategy<Value = ClerkFacts> {
    let attempt = (select(&["paid", "failed"][..]), of(instant()), instant());
    let trial = of((of(instant()), of(instant())));
    (btree_map(1..4_u8, clerk_item(), 0..3), trial, of(attempt)).prop_map(|(items, trial, attempt)| {
        let mut world = World::new();
        for (n, item) in items {
            world.put_item(&format!("csi_{n}"), item);
        }
        if let Some((period_start, period_end)) = trial {
            let slot = ClerkItemTrial { user_id: USER.to_owned(), item_id: "csi_1".to_owned(), period_start, period_end };
            world.clerk.trials.insert("csi_1".to_owned(), known("csi_1#trial", slot));
        }
        if let Some((status, paid_at, start)) = attempt {
            let item_starts = BTreeMap::from([("csi_1".to_owned(), start)]);
            let attempt = ClerkPaymentAttempt { user_id: None, status: status.to_owned(), paid_at, item_starts };
            world.clerk.attempts.insert("pay_1".to_owned(), known("pay_1", attempt));
        }
        world.clerk
    })
}

fn import() -> impl Strategy<Value = Import> {
    let status = of(select(&["none", "trialing", "active", "past_due", "canceled"][..]));
    (status, of(instant()), of(instant()), of(instant()), of(instant())).prop_map(|(status, end, cancel, renewal, imported)| {
        Import {
            imported_at: imported,
            subscription_status: status.map(str::to_owned),
            trial_end_date: end,
            subscription_cancel_date: cancel,
            subscription_renewal_date: renewal,
            stripe_customer_id: Some("cus_1".to_owned()),
            stripe_subscription_id: Some("sub_1".to_owned()),
            ..Import::default()
        }
    })
}

fn facts() -> impl Strategy<Value = World> {
    let requested = of((plan(), instant()));
    (vec(customer(), 0..3), of(clerk_facts()), of(import()), requested).prop_map(|(customers, clerk, import, requested)| {
        let mut world = World::new();
        for (n, mut customer) in customers.into_iter().enumerate() {
            customer.customer_id = format!("cus_{}", n + 1);
            world.customers.push(customer);
        }
        world.clerk = clerk.unwrap_or_default();
        world.import = import;
        if let Some((plan, at)) = requested {
            world.stored().requested_plan = Some(plan.to_owned());
            world.stored().requested_at = Some(at);
        }
        world
    })
}

/// The rows but for the usage period, which moves by its own calendar.
fn without_usage_period(mut rows: Rows) -> Rows {
    rows.usage = UsageColumns {
        usage_reset_date: None,
        usage_period_start: None,
        usage_anchor: None,
        early_reset_subscription: None,
        ..rows.usage
    };
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_changes_before_next_change_at(world in facts(), now in instant(), fraction in 0.0..1.0_f64) {
        let rows = without_usage_period(world.project(now).rows);
        let next = rows.subscription.next_change_at;
        prop_assert!(next.is_none_or(|next| next > now));
        let end = next.unwrap_or(t("2031-01-01T00:00:00Z"));
        let between = ((end - now).num_seconds() as f64 * fraction) as i64;
        for later in [now + seconds(between.max(1)), end - seconds(1)] {
            if later < end {
                prop_assert_eq!(&without_usage_period(world.project(later).rows), &rows, "at {}", later);
            }
        }
    }

    #[test]
    fn projecting_its_own_rows_again_changes_nothing(mut world in facts(), now in instant()) {
        let rows = world.project(now).rows;
        world.stored().rows = rows.clone();
        let again = world.project(now);
        prop_assert_eq!(again.rows, rows);
        prop_assert_eq!(again.usage_reset, None);
    }

    #[test]
    fn no_instant_makes_it_panic(world in facts(), far in select(&[i64::MIN, -62_000_000_000, 0, 4_102_444_800, i64::MAX][..])) {
        let extreme = DateTime::from_timestamp(far, 0).unwrap_or(if far < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC });
        world.project(extreme);
    }
}

#[test]
fn dates_at_the_ends_of_time_do_not_panic() {
    for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        let extreme = Subscription {
            trial_start: Some(at),
            trial_end: Some(at),
            billing_cycle_anchor: Some(at),
            cancel_at: Some(at),
            ..subscription("active", "glow_up")
        };
        let world = World::with([extreme]);
        for now in [DateTime::<Utc>::MIN_UTC, t("2025-03-10T00:00:00Z"), DateTime::<Utc>::MAX_UTC] {
            world.project(now);
        }
    }
}
