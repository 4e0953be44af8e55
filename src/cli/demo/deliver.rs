//! Delivering the stories over HTTP, signed like the providers sign, with the mishaps that webhooks are known for.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SubsecRound, Utc};
use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize};

use crate::cli::demo::sign;
use crate::cli::demo::stories::{Order, STORIES, Story, Template};
use crate::cli::demo::template::fill;
use crate::clock::Clock;
use crate::config::Secret;

/// Where to deliver, and how to sign.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    /// `http://host:port`.
    base: String,
    stripe_secret: Secret,
    clerk_secret: Secret,
    clock: Clock,
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

#[derive(Deserialize)]
struct Answer {
    outcome: String,
}

/// One webhook, ready to be signed.
struct Webhook {
    body: String,
    /// The `svix-id` of Clerk's, whose body has no id; `None` for Stripe's.
    message_id: Option<String>,
}

impl Sender {
    /// Prepares to deliver to the server at `base`.
    pub fn new(base: String, stripe_secret: Secret, clerk_secret: Secret, clock: Clock) -> anyhow::Result<Sender> {
        // No proxy: what is sent here is for this process alone.
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        // Whole seconds, which is all that Stripe's times have.
        let now = clock.now().trunc_subsecs(0);
        let run: String = std::iter::repeat_with(fastrand::alphanumeric).take(6).collect::<String>().to_ascii_lowercase();
        Ok(Sender { client, base, stripe_secret, clerk_secret, clock, now, run })
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
                *answers.entry(self.deliver(&self.webhook(story, template)?).await?).or_default() += 1;
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
            let again = self.deliver(&self.webhook(story, template)?).await?;
            *mishaps.sent_again.entry(again).or_default() += 1;
        }
        let (Some(story), at) = (STORIES.first(), self.clock.now().timestamp()) else { bail!("there is no story") };
        let template = story.webhooks.last().context("a story without webhooks")?;
        let webhook = self.webhook(story, template)?;
        let forged = sign::stripe_signature(&Secret::new("whsec_of_somebody_else"), at, webhook.body.as_bytes())?;
        let request = self.client.post(format!("{}/webhooks/stripe", self.base)).header("stripe-signature", forged);
        let response = request.body(webhook.body).send().await.context("the server did not answer")?;
        mishaps.forged.insert(describe_status(response.status()), 1);
        Ok(mishaps)
    }

    fn webhook(&self, story: &Story, template: &Template) -> anyhow::Result<Webhook> {
        let body = fill(template.text, self.now, &self.run).with_context(|| format!("{}/{}", story.person, template.file))?;
        let event: serde_json::Value = serde_json::from_str(&body)?;
        let number = template.file.split('_').next().unwrap_or_default();
        let message_id = match event.get("id") {
            Some(_) => None,
            None => Some(format!("msg_{}_{number}_{}", story.person, self.run)),
        };
        Ok(Webhook { body, message_id })
    }

    /// Delivers one webhook and returns the outcome, or the status when there is none.
    async fn deliver(&self, webhook: &Webhook) -> anyhow::Result<String> {
        let at = self.clock.now().timestamp();
        let body = webhook.body.as_bytes();
        let request = match &webhook.message_id {
            None => {
                let signature = sign::stripe_signature(&self.stripe_secret, at, body)?;
                self.client.post(format!("{}/webhooks/stripe", self.base)).header("stripe-signature", signature)
            }
            Some(id) => {
                let signature = sign::svix_signature(&self.clerk_secret, id, at, body)?;
                let request = self.client.post(format!("{}/webhooks/clerk", self.base)).header("svix-id", id);
                request.header("svix-timestamp", at).header("svix-signature", signature)
            }
        };
        let request = request.header("content-type", "application/json").body(webhook.body.clone());
        let response = request.send().await.context("the server did not answer")?;
        let status = response.status();
        let bytes = response.bytes().await.context("the server's answer broke off")?;
        match serde_json::from_slice::<Answer>(&bytes) {
            Ok(answer) if status == StatusCode::OK => Ok(answer.outcome),
            _ => Ok(describe_status(status)),
        }
    }
}

fn describe_status(status: StatusCode) -> String {
    format!("refused with {}", status.as_u16())
}
