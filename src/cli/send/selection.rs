//! What is to be sent: the events of files and folders, and the webhooks of built-in stories.

use std::path::PathBuf;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};

use crate::cli::deliver::Webhook;
use crate::cli::demo::deliver::{new_run, webhook_of};
use crate::cli::demo::stories::{Order, STORIES, Story};
use crate::cli::event_files::read_all;
use crate::domain::event::Provider;

/// One event to deliver.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where it comes from: a file's place, or a story's file.
    pub at: String,
    pub provider: Provider,
    pub webhook: Webhook,
}

/// Reads everything that was asked for, in that order.
pub fn read(paths: &[PathBuf], stories: &[String], now: DateTime<Utc>) -> anyhow::Result<Vec<Outgoing>> {
    let mut outgoing = Vec::new();
    if !paths.is_empty() {
        for found in read_all(paths)? {
            let message_id = (found.provider == Provider::Clerk).then(|| found.message_id());
            let webhook = Webhook { body: found.body, message_id };
            outgoing.push(Outgoing { at: found.at.to_string(), provider: found.provider, webhook });
        }
    }
    // Whole seconds, which is all that Stripe's times have.
    let (now, run) = (now.trunc_subsecs(0), new_run());
    for name in stories {
        for story in find_stories(name) {
            outgoing.extend(read_story(story, now, &run)?);
        }
    }
    Ok(outgoing)
}

/// Refuses a name that no story has.
pub fn story_name(name: &str) -> Result<String, String> {
    if find_stories(name).next().is_some() {
        return Ok(name.to_owned());
    }
    let known: Vec<&str> = STORIES.iter().map(|story| story.person).collect();
    Err(format!("there are {}, and all", known.join(", ")))
}

fn find_stories(name: &str) -> impl Iterator<Item = &'static Story> {
    STORIES.iter().filter(move |story| name == "all" || name.eq_ignore_ascii_case(story.person))
}

fn read_story(story: &Story, now: DateTime<Utc>, run: &str) -> anyhow::Result<Vec<Outgoing>> {
    let mut outgoing = Vec::new();
    for template in story.webhooks {
        let webhook = webhook_of(story, template, now, run)?;
        let provider = if webhook.message_id.is_some() { Provider::Clerk } else { Provider::Stripe };
        outgoing.push(Outgoing { at: format!("{}/{}", story.person, template.file), provider, webhook });
    }
    if story.order == Order::Reversed {
        outgoing.reverse();
    }
    Ok(outgoing)
}

impl Outgoing {
    /// The event's type, as its body says.
    pub fn event_type(&self) -> String {
        event_type(&self.webhook.body)
    }
}

fn event_type(body: &Bytes) -> String {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: Option<String>,
    }
    serde_json::from_slice::<Typed>(body).ok().and_then(|typed| typed.r#type).unwrap_or_default()
}
