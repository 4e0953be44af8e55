//! Which event would have told what has drifted. Those found are facts of their own: they know when something happened,
//! where the API only knows how it is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::domain::event::{Event, Source};
use crate::domain::signature::VerifiedBody;
use crate::domain::stripe::decode_event;
use crate::reconcile::{MissedEvent, Mode, ReconcileError, Reconciler, Report};
use crate::stripe_api::{ApiError, Filter, Read, Resource};

/// How long Stripe lists events: see "List all events" in its API reference.
pub(super) const EVENTS_LAST: TimeDelta = TimeDelta::days(30);

/// Pages that are searched, newest first.
const MOST_PAGES: usize = 50;

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    created: i64,
    data: ListedData,
}

#[derive(Deserialize)]
struct ListedData {
    object: ListedObject,
}

#[derive(Deserialize)]
struct ListedObject {
    #[serde(default)]
    id: Option<String>,
}

impl Reconciler {
    /// Names in each drift the newest event of its object that the ledger does not have, and applies the events found.
    pub(super) async fn find_missed_events(&self, mode: Mode, report: &mut Report) -> Result<(), ReconcileError> {
        let drifted: BTreeSet<String> = report.drift.iter().map(|drift| drift.object.clone()).collect();
        if drifted.is_empty() {
            return Ok(());
        }
        let found = match self.search_events(&drifted).await {
            Ok(found) => found,
            Err(ReconcileError::Api(error @ ApiError::MissingScope { .. })) => {
                report.problem(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut newest: BTreeMap<String, MissedEvent> = BTreeMap::new();
        let mut missed = Vec::new();
        // Oldest first, so that the newest one stays.
        for (listed, read) in found.into_iter().rev() {
            let Some(object_id) = listed.data.object.id else { continue };
            let created = DateTime::from_timestamp(listed.created, 0).unwrap_or_default();
            newest.insert(object_id, MissedEvent { id: listed.id, event_type: listed.event_type, created });
            missed.push(read);
        }
        for drift in &mut report.drift {
            drift.missed_event = newest.get(&drift.object).cloned();
        }
        if mode == Mode::Apply {
            let events = self.decode_events(missed, report);
            self.feed(events, report).await?;
        }
        Ok(())
    }

    /// The events about these objects that the ledger does not have, newest first.
    async fn search_events(&self, objects: &BTreeSet<String>) -> Result<Vec<(Listed, Read)>, ReconcileError> {
        let since = self.clock.now() - EVENTS_LAST;
        let filter = Filter { created_since: Some(since.timestamp()), ..Filter::default() };
        let (mut after, mut found) = (None, Vec::new());
        for _ in 0..MOST_PAGES {
            let page = self.stripe()?.fetch_page(Resource::Events, &filter, after.as_deref()).await?;
            let listed = page.objects.into_iter().filter_map(|read| Some((serde_json::from_str(&read.text).ok()?, read)));
            let about = |(listed, _): &(Listed, Read)| listed.data.object.id.as_ref().is_some_and(|id| objects.contains(id));
            found.extend(listed.filter(about));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let ids: Vec<String> = found.iter().map(|(listed, _)| listed.id.clone()).collect();
        let known: BTreeSet<String> = self.store.list_known_events(&ids).await?.into_iter().collect();
        found.retain(|(listed, _)| !known.contains(&listed.id));
        Ok(found)
    }

    /// Events as a webhook would have brought them.
    pub(super) fn decode_events(&self, reads: Vec<Read>, report: &mut Report) -> Vec<Event> {
        let mut events = Vec::with_capacity(reads.len());
        for read in reads {
            let body = VerifiedBody::from_operator(Bytes::from(read.text));
            match decode_event(&body, Source::CatchUp, &self.rules) {
                Ok(event) => events.push(event),
                Err(malformed) => report.problem(format!("an event cannot be read: {}", malformed.0)),
            }
        }
        events
    }

    /// The time from which Stripe still lists events.
    pub(super) fn oldest_listed_event(&self) -> DateTime<Utc> {
        self.clock.now() - EVENTS_LAST
    }
}
