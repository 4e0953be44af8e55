//! The rules of the projection, one file a topic, and the world that they are tried in.

mod cards;
mod clerk_items;
mod dates;
mod email_schedules;
mod imports;
mod next_plans;
mod primary_order;
mod properties;
mod status_table;
mod sync_statuses;
mod trials;
mod users;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::domain::billing::customer_facts::{ClerkFacts, CustomerFacts, Known};
use crate::domain::billing::facts::{
    ClerkItem, ClerkUser, Customer, Import, Invoice, PaymentMethod, Price, Subscription, SubscriptionItem,
};
use crate::domain::billing::plan::{Catalog, Plan};
use crate::domain::billing::projection::{Projected, UserFacts, project};
use crate::domain::billing::rows::{Rows, SubscriptionColumns};
use crate::domain::billing::stored::{NewestEvent, StoredUser};
use crate::domain::rules::Rules;

pub(super) const USER: &str = "user_1";

/// An instant, from its RFC 3339 text.
pub(super) fn t(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

pub(super) fn seconds(n: i64) -> TimeDelta {
    TimeDelta::seconds(n)
}

pub(super) fn known<T>(id: &str, fact: T) -> Known<T> {
    Known { object_id: id.to_owned(), fact, deleted_at: None, ambiguous: false }
}

/// A catalog of four plans, whose prices and slugs are named after them.
pub(super) fn catalog() -> Catalog {
    let plan = |key: &str, order: i32, campaigns: i32, creators: i32| Plan {
        plan_key: key.to_owned(),
        plan_name: key.to_owned(),
        campaigns_limit: campaigns,
        creators_limit: creators,
        features: json!({ "plan": key }),
        price_monthly: None,
        price_yearly: None,
        stripe_price_id_monthly: Some(format!("price_{key}")),
        stripe_price_id_yearly: Some(format!("price_{key}_yearly")),
        stripe_product_id: Some(format!("prod_{key}")),
        clerk_plan_slug: Some(key.to_owned()),
        is_active: key != "viral_surge",
        display_order: order,
    };
    Catalog::new(vec![
        plan("free", 0, 0, 0),
        plan("glow_up", 1, 3, 1000),
        plan("viral_surge", 2, 10, 10_000),
        plan("fame_flex", 3, -1, -1),
    ])
}

/// An item with the monthly price of that plan.
pub(super) fn item(plan: &str) -> SubscriptionItem {
    SubscriptionItem {
        id: Some(format!("si_{plan}")),
        price: Price { id: Some(format!("price_{plan}")), ..Price::default() },
        current_period_start: Some(t("2025-03-01T00:00:00Z")),
        current_period_end: Some(t("2025-04-01T00:00:00Z")),
    }
}

/// A subscription with one item of that plan.
pub(super) fn subscription(status: &str, plan: &str) -> Subscription {
    Subscription {
        customer: "cus_1".to_owned(),
        status: status.to_owned(),
        created: Some(t("2025-02-01T00:00:00Z")),
        items: vec![item(plan)],
        billing_cycle_anchor: Some(t("2025-02-01T00:00:00Z")),
        collection_method: Some("charge_automatically".to_owned()),
        ..Subscription::default()
    }
}

/// A subscription of `glow_up` with a trial from 2025-03-01 to 2025-03-15.
pub(super) fn with_trial(status: &str) -> Subscription {
    Subscription {
        trial_start: Some(t("2025-03-01T00:00:00Z")),
        trial_end: Some(t(TRIAL_END)),
        ..subscription(status, "glow_up")
    }
}

pub(super) const TRIAL_END: &str = "2025-03-15T00:00:00Z";

/// Everything that one user's rows follow from.
#[derive(Debug)]
pub(super) struct World {
    pub user: Option<Known<ClerkUser>>,
    pub customers: Vec<CustomerFacts>,
    pub clerk: ClerkFacts,
    pub import: Option<Import>,
    pub newest: Option<NewestEvent>,
    pub stored: Option<StoredUser>,
    pub catalog: Catalog,
    pub rules: Rules,
}

impl World {
    /// A user who signed up on 2025-01-10 and has nothing else.
    pub fn new() -> World {
        let user = ClerkUser {
            created_at: Some(t("2025-01-10T08:00:00Z")),
            email: Some("ann@example.com".to_owned()),
            full_name: Some("Ann Example".to_owned()),
            ..ClerkUser::default()
        };
        World {
            user: Some(known(USER, user)),
            customers: Vec::new(),
            clerk: ClerkFacts::default(),
            import: None,
            newest: None,
            stored: None,
            catalog: catalog(),
            rules: Rules::default(),
        }
    }

    /// A user with the customer `cus_1`.
    pub fn with_customer() -> World {
        let mut world = World::new();
        world.add_customer("cus_1", "2025-02-01T00:00:00Z");
        world
    }

    /// A user with the customer `cus_1` and these subscriptions, named `sub_1`, `sub_2`, ….
    pub fn with(subscriptions: impl IntoIterator<Item = Subscription>) -> World {
        let mut world = World::with_customer();
        for (index, subscription) in subscriptions.into_iter().enumerate() {
            world.put(&format!("sub_{}", index + 1), subscription);
        }
        world
    }

    pub fn add_customer(&mut self, id: &str, created: &str) -> &mut CustomerFacts {
        let fact = Customer { created: Some(t(created)), ..Customer::default() };
        self.customers.push(CustomerFacts {
            customer_id: id.to_owned(),
            customer: Some(known(id, fact)),
            has_facts: true,
            ..CustomerFacts::default()
        });
        self.customers.last_mut().unwrap()
    }

    /// Gives the first customer that subscription.
    pub fn put(&mut self, id: &str, subscription: Subscription) -> &mut World {
        self.customers[0].subscriptions.insert(id.to_owned(), known(id, subscription));
        self
    }

    /// Gives the first customer that payment method.
    pub fn put_method(&mut self, id: &str, method: PaymentMethod) -> &mut World {
        let customer = &mut self.customers[0];
        if method.card.is_some() && !method.detached {
            customer.attached_cards.insert(id.to_owned());
        }
        customer.payment_methods.insert(id.to_owned(), known(id, method));
        self
    }

    /// Gives the first customer that invoice.
    pub fn put_invoice(&mut self, id: &str, invoice: Invoice) -> &mut World {
        self.customers[0].invoices.insert(id, Some(invoice));
        self
    }

    pub fn put_item(&mut self, id: &str, item: ClerkItem) -> &mut World {
        self.clerk.items.insert(id.to_owned(), known(id, item));
        self
    }

    /// The first customer itself.
    pub fn customer(&mut self) -> &mut Customer {
        &mut self.customers[0].customer.as_mut().unwrap().fact
    }

    /// The stored rows; made from the present ones when there are none yet.
    pub fn stored(&mut self) -> &mut StoredUser {
        self.stored.get_or_insert_with(|| StoredUser {
            user_id: USER.to_owned(),
            created_at: t("2025-01-10T08:00:05Z"),
            rows: Rows::default(),
            requested_plan: None,
            requested_at: None,
        })
    }

    pub fn project(&self, now: DateTime<Utc>) -> Projected {
        let facts = UserFacts {
            user_id: USER,
            user: self.user.as_ref(),
            customers: self.customers.iter().collect(),
            clerk: Some(&self.clerk),
            import: self.import.as_ref(),
            newest: self.newest.as_ref(),
            stored: self.stored.as_ref(),
        };
        project(&facts, &self.catalog, &self.rules, now)
    }

    /// The rows at an instant.
    pub fn rows(&self, now: &str) -> Rows {
        self.project(t(now)).rows
    }

    /// The row of `user_subscriptions` at an instant.
    pub fn subscription_row(&self, now: &str) -> SubscriptionColumns {
        self.rows(now).subscription
    }

    /// The names of the alerts and their subjects.
    pub fn alerts(&self, now: &str) -> Vec<(&'static str, String)> {
        self.project(t(now)).alerts.into_iter().map(|alert| (alert.name, alert.subject)).collect()
    }
}
