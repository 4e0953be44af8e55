//! Delivering the stories over HTTP, signed like the providers sign, with the mishaps that webhooks are known for.

use std::collections::BTreeMap;

use anyhow::Context;
use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;

use crate::cli::deliver::{Courier, Webhook};
use crate::cli::demo::stories::{Order, STORIES, Story, Template};
use crate::cli::demo::template::fill;
use crate::cli::server_address::ServerAddress;
use crate::clock::Clock;
use crate::config::Secret;

/// Where to deliver, and how to sign.
#[derive(Debug)]
pub struct Sender {
    courier: Courier,
    /// Signs with a secret that the server does not have.
    forger: Courier,
    /// What the times in the stories are relative to.
    now: DateTime<Utc>,
    /// Part of every id of this run.
    run: String,
}

/// What the server answered to a story's webhooks.
#[derive(Clone, Debug, Serialize)]
pub struct Delivered {
    pub name: &'static str,
    pub user_id: String,
    pub lesson: &'static str,
    /// How the webhooks were sent, for people.
    pub manner: &'static str,
    pub answers: BTreeMap<String, usize>,
}

/// What the mishaps were answered with.
#[derive(Clone, Debug, Serialize)]
pub struct Mishaps {
    pub sent_again: BTreeMap<String, usize>,
    pub forged: BTreeMap<String, usize>,
}

impl Sender {
    /// Prepares to deliver to the server at `base`.
    pub fn new(base: &str, stripe_secret: Secret, clerk_secret: Secret, clock: Clock) -> anyhow::Result<Sender> {
        // Whole seconds, which is all that Stripe's times have.
        let now = clock.now().trunc_subsecs(0);
        let server = ServerAddress::parse(base).map_err(anyhow::Error::msg)?;
        let forger = Courier::new(&server, Some(Secret::new("whsec_of_somebody_else")), None, clock.clone())?;
        let courier = Courier::new(&server, Some(stripe_secret), Some(clerk_secret), clock)?;
        Ok(Sender { courier, forger, now, run: new_run() })
    }

    /// The id of this run's person.
    fn user_id(&self, story: &Story) -> String {
        format!("user_{}_{}", story.person, self.run)
    }

    /// Delivers every story in turn.
    pub async fn deliver_stories(&self) -> anyhow::Result<Vec<Delivered>> {
        let mut delivered = Vec::new();
        for story in STORIES {
            let mut templates: Vec<&Template> = story.webhooks.iter().collect();
            let manner = match story.order {
                Order::AsTheyHappened => "as they happened",
                Order::Reversed => "newest first",
            };
            if story.order == Order::Reversed {
                templates.reverse();
            }
            let mut answers = BTreeMap::new();
            for template in templates {
                *answers.entry(deliver(&self.courier, &self.webhook(story, template)?).await?).or_default() += 1;
            }
            delivered.push(Delivered { name: story.name, user_id: self.user_id(story), lesson: story.lesson, manner, answers });
        }
        Ok(delivered)
    }

    /// Sends the last webhook of everybody once more, and one that somebody else signed.
    pub async fn deliver_mishaps(&self) -> anyhow::Result<Mishaps> {
        let mut mishaps = Mishaps { sent_again: BTreeMap::new(), forged: BTreeMap::new() };
        for story in STORIES {
            let Some(template) = story.webhooks.last() else { continue };
            let again = deliver(&self.courier, &self.webhook(story, template)?).await?;
            *mishaps.sent_again.entry(again).or_default() += 1;
        }
        let story = STORIES.first().context("there is no story")?;
        let template = story.webhooks.last().context("a story without webhooks")?;
        mishaps.forged.insert(deliver(&self.forger, &self.webhook(story, template)?).await?, 1);
        Ok(mishaps)
    }

    fn webhook(&self, story: &Story, template: &Template) -> anyhow::Result<Webhook> {
        webhook_of(story, template, self.now, &self.run)
    }
}

/// A webhook of a story, its times relative to `now` and its ids those of the run.
pub fn webhook_of(story: &Story, template: &Template, now: DateTime<Utc>, run: &str) -> anyhow::Result<Webhook> {
    let body = fill(template.text, now, run).with_context(|| format!("{}/{}", story.person, template.file))?;
    let event: serde_json::Value = serde_json::from_str(&body)?;
    let number = template.file.split('_').next().unwrap_or_default();
    let message_id = match event.get("id") {
        Some(_) => None,
        None => Some(format!("msg_{}_{number}_{run}", story.person)),
    };
    Ok(Webhook { body: body.into(), message_id })
}

/// A part of ids that no other run has.
pub fn new_run() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(6).collect::<String>().to_ascii_lowercase()
}

async fn deliver(courier: &Courier, webhook: &Webhook) -> anyhow::Result<String> {
    Ok(courier.deliver(webhook).await.context("the server did not answer")?.to_string())
}
