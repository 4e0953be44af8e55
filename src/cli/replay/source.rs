//! Where the events to replay come from: files, or the ledger. Read a part at a time, in order.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::cli::event_files::{EventFile, FoundEvent};
use crate::domain::event::{Event, Provider, Source};
use crate::domain::rules::Rules;
use crate::domain::signature::VerifiedBody;
use crate::domain::{clerk, stripe};
use crate::ingest::replay::event_from_ledger;
use crate::store::{EventDetail, ReplayFilter, Store};

/// Events read at a time.
const PART: usize = 1000;

/// An event to replay, or why what was found is none.
#[derive(Debug)]
pub struct Found {
    /// A file's place, or the id in the ledger.
    pub at: String,
    pub event: Result<Event, String>,
}

/// What is left to read.
#[derive(Debug)]
pub struct EventSource<'a> {
    rules: &'a Rules,
    rest: Rest<'a>,
}

#[derive(Debug)]
enum Rest<'a> {
    Files { files: std::vec::IntoIter<PathBuf>, events: std::vec::IntoIter<FoundEvent> },
    Ledger { store: &'a Store, filter: ReplayFilter, after: Option<(DateTime<Utc>, String)> },
}

impl<'a> EventSource<'a> {
    /// The events of these files.
    pub fn of_files(files: Vec<PathBuf>, rules: &'a Rules) -> EventSource<'a> {
        EventSource { rules, rest: Rest::Files { files: files.into_iter(), events: Vec::new().into_iter() } }
    }

    /// The events of the ledger that pass the filter.
    pub fn of_ledger(store: &'a Store, filter: ReplayFilter, rules: &'a Rules) -> EventSource<'a> {
        EventSource { rules, rest: Rest::Ledger { store, filter, after: None } }
    }

    /// The next events; none at the end.
    pub async fn next_part(&mut self) -> anyhow::Result<Vec<Found>> {
        match &mut self.rest {
            Rest::Files { files, events } => {
                while events.len() == 0 {
                    let Some(file) = files.next() else { return Ok(Vec::new()) };
                    *events = EventFile::read(&file)?.events()?.into_iter();
                }
                Ok(events.take(PART).map(|found| read_found(&found, self.rules)).collect())
            }
            Rest::Ledger { store, filter, after } => {
                let limit = i64::try_from(PART).unwrap_or(i64::MAX);
                let stored = store.list_replayable(filter, after.clone(), limit).await?;
                if let Some(last) = stored.last() {
                    *after = Some((last.entry.received_at, last.entry.event_id.clone()));
                }
                Ok(stored.iter().map(|stored| read_stored(stored, self.rules)).collect())
            }
        }
    }
}

fn read_found(found: &FoundEvent, rules: &Rules) -> Found {
    let body = VerifiedBody::from_operator(found.body.clone());
    let decoded = match found.provider {
        Provider::Clerk => clerk::decode_event(&body, &found.message_id(), Source::Replay, rules),
        Provider::Stripe | Provider::Import => stripe::decode_event(&body, Source::Replay, rules),
    };
    Found { at: found.at.to_string(), event: decoded.map_err(|malformed| malformed.0) }
}

fn read_stored(stored: &EventDetail, rules: &Rules) -> Found {
    Found { at: stored.entry.event_id.clone(), event: event_from_ledger(stored, rules).map_err(|cause| cause.to_string()) }
}
