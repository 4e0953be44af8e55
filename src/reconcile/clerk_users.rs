//! Everybody whom Clerk has, page by page; and before that those of ours whom Clerk has no more, because the event that would
//! have told so never came.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::clerk_api::{ClerkApi, ClerkApiError, FetchedUser, MOST_IDS, UserCursor};
use crate::domain::clerk::{self, ApiRead};
use crate::domain::event::{Content, Event};
use crate::reconcile::walk::Walking;
use crate::reconcile::{Mode, ReconcileError, Reconciler, Report};

/// Whoever changed this shortly before the reading began may not be listed yet.
const SETTLING: TimeDelta = TimeDelta::minutes(5);

impl Reconciler {
    /// Looks for those of ours who are gone, then reads all users from the stored position on.
    pub(super) async fn walk_clerk_users(&self, walking: &mut Walking<'_>) -> Result<(), ReconcileError> {
        let (api, since, mode) = (self.clerk()?, walking.walk.since, walking.walk.mode);
        let stored = walking.position.after.as_deref().and_then(|text| serde_json::from_str::<UserCursor>(text).ok());
        if stored.is_none() && since.is_none() && !self.absorb_departures(api, walking).await? {
            return Ok(());
        }
        // Only for the time that is left: a key that may not count may still read.
        let total = api.count_users(since).await.ok();
        let (mut listed, mut cursor) = (BTreeSet::new(), Some(stored.unwrap_or_default()));
        while let Some(from) = cursor {
            let page = api.list_users(&from, since).await?;
            // Pages overlap, so that nobody is passed over.
            let is_new = |user: &FetchedUser| user.id.as_ref().is_none_or(|id| listed.insert(id.clone()));
            let users: Vec<FetchedUser> = page.users.into_iter().filter(is_new).collect();
            let count = users.len() as u64;
            walking.position.objects += count;
            self.absorb_users(users, mode, walking.report).await?;
            if let Some(next) = &page.next {
                walking.position.after = serde_json::to_string(next).ok();
                self.keep_position(walking).await?;
            }
            let read = page.next.as_ref().map(|next| next.offset as u64);
            walking.tell(count, total.zip(read).map(|(total, read)| total.saturating_sub(read)));
            cursor = page.next;
        }
        Ok(())
    }

    async fn absorb_users(&self, users: Vec<FetchedUser>, mode: Mode, report: &mut Report) -> Result<(), ReconcileError> {
        report.objects += users.len() as u64;
        let reads = users.into_iter().map(|user| (user.text, ApiRead::plain(user.as_of)));
        let events = decode_clerk(reads, report);
        self.absorb_events(events, mode, report).await
    }

    /// Users whom we hold and Clerk does not have become deleted. A key of another instance knows none of ours: when more of
    /// them are missing than are there, nobody is deleted and nobody read; `false`.
    async fn absorb_departures(&self, api: &ClerkApi, walking: &mut Walking<'_>) -> Result<bool, ReconcileError> {
        let settled_before = walking.position.started_at - SETTLING;
        let (mut after, mut present, mut departed) = (String::new(), 0_usize, Vec::new());
        loop {
            let held = self.store.list_held_users(&after, settled_before, MOST_IDS).await?;
            let Some(last) = held.last() else { break };
            after.clone_from(last);
            let missing = self.find_departed(api, &held).await?;
            present += held.len() - missing.len();
            departed.extend(missing);
        }
        if departed.len() > present {
            let (missing, all) = (departed.len(), departed.len() + present);
            walking.report.problem(format!(
                "Clerk does not have {missing} of the {all} users whom we hold, so nobody was read or marked as deleted: is \
                 CLERK_SECRET_KEY of another instance? If not, `users ensure --all` reads all the same"
            ));
            return Ok(false);
        }
        let stubs = departed
            .into_iter()
            .map(|(id, at)| (json!({"id": id, "object": "user", "deleted": true}).to_string(), ApiRead::plain(at)));
        let events = decode_clerk(stubs, walking.report);
        self.absorb_events(events, walking.walk.mode, walking.report).await?;
        Ok(true)
    }

    /// Those whom neither the list nor a question by id has, and when that was.
    async fn find_departed(&self, api: &ClerkApi, ids: &[String]) -> Result<Vec<(String, DateTime<Utc>)>, ReconcileError> {
        let known: BTreeSet<String> = api.list_known_ids(ids).await?.into_iter().collect();
        let mut departed = Vec::new();
        for id in ids.iter().filter(|id| !known.contains(*id)) {
            let asked_at = self.clock.now();
            match api.fetch_user(id).await {
                Ok(None) => departed.push((id.clone(), asked_at)),
                Ok(Some(_)) | Err(ClerkApiError::NotAnId(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(departed)
    }
}

/// What can be read of these answers; of the rest it is told why not.
pub(super) fn decode_clerk(reads: impl Iterator<Item = (String, ApiRead)>, report: &mut Report) -> Vec<Event> {
    let mut events = Vec::new();
    for (text, read) in reads {
        match clerk::decode_object(&text, &read) {
            Ok(event) => match &event.content {
                Content::Unreadable { reason } => {
                    let id = event.object_id.as_deref().unwrap_or("an object");
                    report.problem(format!("{id} cannot be read: {reason}"));
                }
                Content::Snapshots(_) | Content::Ignored { .. } => events.push(event),
            },
            Err(malformed) => report.problem(format!("an object of Clerk's cannot be read: {}", malformed.0)),
        }
    }
    events
}
