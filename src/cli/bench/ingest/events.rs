//! The events of a bench: webhooks of the size and shape that the providers send, each of one of many users, each changing
//! something. Whose they are, and when they happened, is filled into texts that are prepared once.

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::cli::deliver::Webhook;

/// Marks in a text: `<user>`, `<event>`, and with their quotation marks `"<seconds>"` and `"<milliseconds>"`.
const USER: &str = "<user>";
const EVENT: &str = "<event>";
const SECONDS: &str = "\"<seconds>\"";
const MILLISECONDS: &str = "\"<milliseconds>\"";

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("../../../../fixtures/", $path, ".json"))
    };
}

/// The ids of the fixtures' person, and what stands in their place.
const IDS: [(&str, &str); 9] = [
    ("user_2fx0000000000000000000Ada", "user_bench_<user>"),
    ("cus_Tfx0000000Ada", "cus_bench_<user>"),
    ("sub_1Tfx00000000Ada", "sub_bench_<user>"),
    ("si_Tfx00000000Ada", "si_bench_<user>"),
    ("pm_1Tfx00000000Ada", "pm_bench_<user>"),
    ("in_1Tfx00000000Ada", "in_bench_<event>"),
    ("il_1Tfx00000000Ada", "il_bench_<event>"),
    ("ada@example.com", "bench.<user>@example.com"),
    ("ada.example@example.org", "bench.<user>@example.org"),
];

/// A text with marks.
#[derive(Clone, Debug)]
struct Template {
    text: String,
    is_clerk: bool,
}

/// What happens to a user, step by step: first what makes it a paying one, then one round after the other.
#[derive(Clone, Debug)]
pub struct Mix {
    run: String,
    begin: DateTime<Utc>,
    making: Vec<Template>,
    round: Vec<Template>,
}

impl Mix {
    /// The events of those providers that can be signed. Each step of a user happens a second after the one before, the first
    /// a day ago: events of one second would be a contest of their own.
    pub fn new(run: &str, now: DateTime<Utc>, has_stripe: bool, has_clerk: bool) -> anyhow::Result<Mix> {
        let created = clerk(fixture!("clerk/user.created"), |_| {})?;
        let renamed = clerk(fixture!("clerk/user.updated"), |user| user["first_name"] = json!("Bench <event>"))?;
        let canceled = stripe(fixture!("stripe/customer.subscription.updated"), |_| {})?;
        let resumed = stripe(fixture!("stripe/customer.subscription.updated"), resume)?;
        let paid = stripe(fixture!("stripe/invoice.paid"), |_| {})?;
        let mut making = vec![
            created,
            stripe(fixture!("stripe/customer.created"), |_| {})?,
            stripe(fixture!("stripe/customer.subscription.created"), |_| {})?,
            stripe(fixture!("stripe/payment_method.attached"), |_| {})?,
        ];
        let mut round = vec![canceled.clone(), paid.clone(), resumed.clone(), renamed, canceled, paid, resumed];
        let can_be_signed = |template: &Template| if template.is_clerk { has_clerk } else { has_stripe };
        making.retain(can_be_signed);
        round.retain(can_be_signed);
        Ok(Mix { run: run.to_owned(), begin: now - TimeDelta::days(1), making, round })
    }

    /// What no other run's ids have.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// How many steps make a user.
    pub fn making_steps(&self) -> u64 {
        self.making.len() as u64
    }

    /// The first step of each provider.
    pub fn first_of_each_provider(&self) -> Vec<u64> {
        let first = |is_clerk| self.making.iter().position(|template| template.is_clerk == is_clerk);
        [true, false].into_iter().filter_map(first).map(|step| step as u64).collect()
    }

    /// What happens to a user in that step.
    pub fn webhook(&self, user: u64, step: u64) -> Webhook {
        let index = usize::try_from(step).unwrap_or_default();
        let round = || self.round.get((index - self.making.len()) % self.round.len().max(1));
        let Some(template) = self.making.get(index).or_else(round) else {
            return Webhook { body: bytes::Bytes::new(), message_id: None };
        };
        let at = self.begin + TimeDelta::try_seconds(step.try_into().unwrap_or_default()).unwrap_or_default();
        let (user, event) = (format!("{}_{user}", self.run), format!("{}_{user}_{step}", self.run));
        let body = template.text.replace(USER, &user).replace(EVENT, &event);
        let body = match template.is_clerk {
            true => body.replace(MILLISECONDS, &at.timestamp_millis().to_string()),
            false => body.replace(SECONDS, &at.timestamp().to_string()),
        };
        Webhook { body: body.into(), message_id: template.is_clerk.then(|| format!("msg_bench_{event}")) }
    }
}

/// Stripe's: `edit` gets `data`.
fn stripe(text: &str, edit: impl FnOnce(&mut Value)) -> anyhow::Result<Template> {
    let mut event: Value = serde_json::from_str(text).context("a fixture")?;
    event["id"] = json!("evt_bench_<event>");
    event["created"] = json!("<seconds>");
    event["livemode"] = json!(false);
    edit(&mut event["data"]);
    Ok(Template { text: with_marks(&event), is_clerk: false })
}

/// Clerk's: `edit` gets `data`.
fn clerk(text: &str, edit: impl FnOnce(&mut Value)) -> anyhow::Result<Template> {
    let mut event: Value = serde_json::from_str(text).context("a fixture")?;
    event["timestamp"] = json!("<milliseconds>");
    event["data"]["updated_at"] = json!("<milliseconds>");
    edit(&mut event["data"]);
    Ok(Template { text: with_marks(&event), is_clerk: true })
}

/// The fixture's cancellation, taken back.
fn resume(data: &mut Value) {
    let canceled = data["object"].clone();
    for (name, before) in [("cancel_at", json!(null)), ("cancel_at_period_end", json!(false)), ("canceled_at", json!(null))] {
        data["previous_attributes"][name] = canceled[name].clone();
        data["object"][name] = before;
    }
    data["previous_attributes"]["cancellation_details"] = json!({ "reason": canceled["cancellation_details"]["reason"] });
    data["object"]["cancellation_details"]["reason"] = json!(null);
}

fn with_marks(event: &Value) -> String {
    IDS.iter().fold(event.to_string(), |text, (id, mark)| text.replace(id, mark))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::billing::accounts::{Accounts, Context};
    use crate::domain::billing::plan::Catalog;
    use crate::domain::event::{Outcome, Source};
    use crate::domain::rules::Rules;
    use crate::domain::signature::VerifiedBody;
    use crate::domain::{clerk, stripe};

    #[test]
    fn every_event_is_its_own_is_marked_as_made_up_and_changes_something() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("valid");
        let mix = Mix::new("r1", now, true, true).expect("the fixtures are there");
        let (rules, catalog, mut accounts, mut ids) =
            (Rules::default(), Catalog::default(), Accounts::default(), BTreeSet::new());
        assert_eq!(mix.first_of_each_provider(), [0, 1]);
        for step in 0..mix.making_steps() + 14 {
            let webhook = mix.webhook(7, step);
            let text = String::from_utf8(webhook.body.to_vec()).expect("is text");
            assert!(IDS.iter().all(|(id, _)| !text.contains(id)), "{text}");
            assert!(!text.contains('<') && !text.contains("\"livemode\":true"), "{text}");
            let body = VerifiedBody::from_operator(webhook.body.clone());
            let event = match &webhook.message_id {
                Some(id) => clerk::decode_event(&body, id, Source::Webhook, &rules),
                None => stripe::decode_event(&body, Source::Webhook, &rules),
            };
            let event = event.expect("decodes");
            let id = webhook.message_id.unwrap_or_else(|| serde_json::from_str::<Value>(&text).expect("JSON")["id"].to_string());
            assert!(id.contains("_bench_r1_7_") && ids.insert(id.clone()), "{id}");
            let applied = accounts.apply(&event, Context { catalog: &catalog, rules: &rules, now });
            assert_eq!(applied.outcome, Outcome::Applied, "step {step}");
            assert!(!applied.effects.is_empty(), "step {step} changes nothing");
        }
        assert!(accounts.rows("user_bench_r1_7").is_some_and(|rows| rows.billing.stripe_customer_id.is_some()));
    }

    #[test]
    fn of_a_provider_without_a_secret_there_are_no_events() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("valid");
        for (has_stripe, has_clerk) in [(true, false), (false, true)] {
            let mix = Mix::new("r1", now, has_stripe, has_clerk).expect("the fixtures are there");
            assert_eq!(mix.first_of_each_provider(), [0]);
            for step in 0..20 {
                assert_eq!(mix.webhook(1, step).message_id.is_some(), has_clerk);
            }
        }
    }
}
