//! Loading `fixtures/journeys`: events, and the rows that a person derived from the rules. Nothing here knows how the
//! rows are computed.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use billsync::domain::billing::facts::{Fact, Import};
use billsync::domain::billing::plan::{Catalog, Plan};
use billsync::domain::billing::stored::OperatorLink;
use billsync::domain::event::{Content, Event, ObjectKey, Payload, Provider, Snapshot, Source, TypeRank};
use billsync::domain::rules::{Livemode, Rules};
use billsync::domain::signature::VerifiedBody;
use billsync::domain::{clerk, stripe};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::dialect::Dialect;
use crate::support::events::Webhook;

/// One story.
pub struct Journey {
    pub name: String,
    /// What happens and which rule decides it.
    pub rule: String,
    pub expected: Expected,
    bodies: Vec<Body>,
}

struct Body {
    provider: Provider,
    svix_id: String,
    json: Value,
}

/// What the API answered in the middle of the story.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    /// The number of the last event delivered before it.
    after: usize,
    as_of: DateTime<Utc>,
    object: Value,
}

/// A plan that somebody asked the application for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub plan: String,
    pub at: DateTime<Utc>,
}

/// `expected.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub now: DateTime<Utc>,
    pub users: BTreeMap<String, Value>,
    pub owners: BTreeMap<String, Value>,
    #[serde(default)]
    rules: RuleChanges,
    #[serde(default)]
    operator_links: Vec<ExpectedOperatorLink>,
    /// By Clerk id.
    #[serde(default)]
    imports: BTreeMap<String, Import>,
    #[serde(default)]
    reads: Vec<Reading>,
    #[serde(default)]
    pub midway: Vec<Midway>,
    #[serde(default)]
    pub then: Vec<Then>,
}

/// The settings that differ from their defaults.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RuleChanges {
    livemode: Option<String>,
    link_by_payment_link: bool,
    link_by_verified_email: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedOperatorLink {
    customer_id: String,
    clerk_user_id: Option<String>,
}

/// The rows after a part of the story.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Midway {
    /// The number of the last event delivered.
    pub after: usize,
    pub now: DateTime<Utc>,
    pub users: BTreeMap<String, Value>,
    pub owners: Option<BTreeMap<String, Value>>,
}

/// The rows after the story, when time has passed or the catalog has changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Then {
    pub now: DateTime<Utc>,
    /// Plans that the catalog has gained.
    #[serde(default)]
    plans: Vec<FixturePlan>,
    /// What the application has noted, by Clerk id.
    #[serde(default)]
    pub requests: BTreeMap<String, Request>,
    pub users: BTreeMap<String, Value>,
    pub owners: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FixturePlan {
    plan_key: String,
    plan_name: String,
    campaigns_limit: i32,
    creators_limit: i32,
    features: Value,
    price_monthly: Option<String>,
    price_yearly: Option<String>,
    stripe_price_id_monthly: Option<String>,
    stripe_price_id_yearly: Option<String>,
    stripe_product_id: Option<String>,
    clerk_plan_slug: Option<String>,
    is_active: bool,
    display_order: i32,
}

#[derive(Deserialize)]
struct FixturePlans {
    plans: Vec<FixturePlan>,
}

impl From<FixturePlan> for Plan {
    fn from(plan: FixturePlan) -> Plan {
        Plan {
            plan_key: plan.plan_key,
            plan_name: plan.plan_name,
            campaigns_limit: plan.campaigns_limit,
            creators_limit: plan.creators_limit,
            features: plan.features,
            price_monthly: plan.price_monthly,
            price_yearly: plan.price_yearly,
            stripe_price_id_monthly: plan.stripe_price_id_monthly,
            stripe_price_id_yearly: plan.stripe_price_id_yearly,
            stripe_product_id: plan.stripe_product_id,
            clerk_plan_slug: plan.clerk_plan_slug,
            is_active: plan.is_active,
            display_order: plan.display_order,
        }
    }
}

/// Every story, by name.
pub fn load_all() -> Vec<Journey> {
    let mut folders: Vec<PathBuf> = entries(&folder()).into_iter().filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.iter().map(|folder| load(folder)).collect()
}

/// The catalog that the stories share, with what a reading adds to it.
pub fn catalog(then: Option<&Then>) -> Catalog {
    let text = fs::read_to_string(folder().join("plans.toml")).expect("plans.toml is readable");
    let fixture: FixturePlans = toml::from_str(&text).expect("plans.toml is a catalog");
    let added = then.map(|then| then.plans.clone()).unwrap_or_default();
    Catalog::new(fixture.plans.into_iter().chain(added).map(Plan::from).collect())
}

impl Journey {
    /// The settings that the story is told under.
    pub fn rules(&self) -> Rules {
        let changes = &self.expected.rules;
        Rules {
            livemode: match changes.livemode.as_deref() {
                Some("test") => Livemode::Test,
                Some("live") => Livemode::Live,
                _ => Livemode::Any,
            },
            link_by_payment_link: changes.link_by_payment_link,
            link_by_verified_email: changes.link_by_verified_email,
            ..Rules::default()
        }
    }

    /// Whether no setting, operator or import has a part in the story.
    pub fn is_told_by_default_rules(&self) -> bool {
        let expected = &self.expected;
        let changes = &expected.rules;
        let changed = changes.livemode.is_some() || changes.link_by_payment_link || changes.link_by_verified_email;
        !changed && expected.operator_links.is_empty() && expected.imports.is_empty()
    }

    /// What the operator has said before the story begins.
    pub fn operator_links(&self) -> Vec<OperatorLink> {
        let link = |link: &ExpectedOperatorLink| OperatorLink {
            customer_id: link.customer_id.clone(),
            clerk_user_id: link.clerk_user_id.clone(),
        };
        self.expected.operator_links.iter().map(link).collect()
    }

    /// The events in the order of their numbers, as the provider would have sent them in that dialect, and the API reads
    /// among them.
    pub fn events(&self, dialect: Dialect) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, body) in self.bodies.iter().enumerate() {
            events.push(self.decode(body, dialect));
            let reads = self.expected.reads.iter().filter(|read| read.after == number + 1);
            events.extend(reads.map(|read| self.decode_read(read, dialect)));
        }
        events
    }

    /// Whether webhooks are all that the story is made of.
    pub fn is_told_by_webhooks(&self) -> bool {
        self.expected.reads.is_empty()
    }

    /// The same as webhooks.
    pub fn webhooks(&self, dialect: Dialect) -> Vec<Webhook> {
        let webhook = |body: &Body| match body.provider {
            Provider::Clerk => Webhook::clerk(&body.svix_id, body.json.to_string()),
            Provider::Stripe | Provider::Import => {
                let id = body.json["id"].as_str().expect("an event has an id");
                Webhook::stripe(id, dialect.render(&body.json).to_string())
            }
        };
        self.bodies.iter().map(webhook).collect()
    }

    /// Stripe's events, whole, as its list of events has them.
    pub fn listed_events(&self) -> Vec<Value> {
        let of_stripe = self.bodies.iter().filter(|body| body.provider == Provider::Stripe);
        of_stripe.map(|body| Dialect::Newest.render(&body.json)).filter(|json| json["object"] == "event").collect()
    }

    /// The rows of the old database, as facts.
    pub fn imports(&self) -> Vec<Event> {
        self.expected.imports.iter().map(|(user_id, import)| import_event(user_id, import)).collect()
    }

    fn decode(&self, body: &Body, dialect: Dialect) -> Event {
        let decoded = match body.provider {
            Provider::Clerk => clerk::decode_event(&verified(&body.json), &body.svix_id, Source::Webhook, &self.rules()),
            Provider::Stripe | Provider::Import => {
                stripe::decode_event(&verified(&dialect.render(&body.json)), Source::Webhook, &self.rules())
            }
        };
        decoded.unwrap_or_else(|error| panic!("{}: {} is {error}", self.name, body.svix_id))
    }
}

impl Journey {
    fn decode_read(&self, read: &Reading, dialect: Dialect) -> Event {
        let rendered = dialect.render(&json!({"data": {"object": read.object}}));
        let (object, api_version) = (rendered["data"]["object"].to_string(), rendered["api_version"].as_str().map(str::to_owned));
        let how = stripe::ApiRead { as_of: read.as_of, api_version, source: Source::Reconcile };
        let decoded = stripe::decode_object(&object, &how, &self.rules());
        decoded.unwrap_or_else(|error| panic!("{}: the read after {} is {error}", self.name, read.after))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journeys")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a readable entry").path()).collect()
}

fn load(folder: &Path) -> Journey {
    let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files: Vec<PathBuf> = entries(folder);
    files.retain(|path| path.extension().is_some_and(|kind| kind == "json") && !path.ends_with("expected.json"));
    files.sort();
    let body = |path: &PathBuf| {
        let json: Value = serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let number = path.file_name().expect("a file has a name").to_string_lossy()[..2].to_owned();
        let provider = if json.get("instance_id").is_some() { Provider::Clerk } else { Provider::Stripe };
        Body { provider, svix_id: format!("msg_{name}_{number}"), json }
    };
    let expected = read(&folder.join("expected.json"));
    Journey {
        rule: read(&folder.join("README.md")).trim().to_owned(),
        expected: serde_json::from_str(&expected).unwrap_or_else(|error| panic!("{name}/expected.json: {error}")),
        bodies: files.iter().map(body).collect(),
        name,
    }
}

fn verified(json: &Value) -> VerifiedBody {
    VerifiedBody::from_operator(Bytes::from(json.to_string()))
}

fn import_event(user_id: &str, import: &Import) -> Event {
    let id = format!("import:{user_id}");
    let as_of = import.imported_at.expect("an import says when");
    let object: Arc<str> = "{}".into();
    let snapshot = Snapshot {
        key: ObjectKey { provider: Provider::Import, account: String::new(), object_id: user_id.to_owned() },
        object_type: "import".into(),
        event_id: id.clone(),
        as_of,
        terminal: false,
        type_rank: TypeRank::Other,
        api_version: None,
        from_read: false,
        owner_id: Some(user_id.to_owned()),
        deletion: false,
        object: Some(object.clone()),
        previous_attributes: None,
        fact: Some(Arc::new(Fact::Import(Box::new(import.clone())))),
    };
    Event {
        provider: Provider::Import,
        id,
        event_type: "import".into(),
        occurred_at: as_of,
        api_version: None,
        livemode: None,
        account: String::new(),
        source: Source::Job,
        object_id: Some(user_id.to_owned()),
        owner_id: Some(user_id.to_owned()),
        customer_ids: import.stripe_customer_id.iter().cloned().collect(),
        clerk_user_ids: vec![user_id.to_owned()],
        payload: Payload { text: object, fits_jsonb: true },
        content: Content::Snapshots(vec![snapshot]),
    }
}
