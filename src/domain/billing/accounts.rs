//! The fold: events in, changed rows out. Pure.

use chrono::{DateTime, Utc};

use crate::domain::billing::plan::Catalog;
use crate::domain::billing::rows::Effect;
use crate::domain::billing::stored::{Changes, Loaded};
use crate::domain::event::{Event, Outcome};
use crate::domain::rules::Rules;

/// The accounts that a batch concerns, in memory.
#[derive(Clone, Debug, Default)]
pub struct Accounts {}

/// What one event did.
#[derive(Clone, Debug)]
pub struct Applied {
    pub outcome: Outcome,
    /// Why, when the outcome alone does not say.
    pub reason: Option<String>,
    pub effects: Vec<Effect>,
}

/// What the fold is a function of beside the events.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub catalog: &'a Catalog,
    pub rules: &'a Rules,
    pub now: DateTime<Utc>,
}

impl Accounts {
    /// Takes what was loaded for a batch.
    pub fn new(loaded: Loaded) -> Accounts {
        let _ = loaded;
        Accounts::default()
    }

    /// Applies one event that the ledger does not know yet (or knows as failed).
    pub fn apply(&mut self, event: &Event, context: Context<'_>) -> Applied {
        let _ = (event, context);
        Applied { outcome: Outcome::Ignored, reason: None, effects: Vec::new() }
    }

    /// Re-projects a user without an event: the clock, the catalog or an operator's link changed.
    pub fn reproject(&mut self, user_id: &str, context: Context<'_>) -> Vec<Effect> {
        let _ = (user_id, context);
        Vec::new()
    }

    /// Everything that differs from what was loaded, sorted by key, one entry a key.
    pub fn into_changes(self) -> Changes {
        Changes::default()
    }
}
