//! What became of everything that was sent: how many events got which answer, how long that took, and what to do about
//! those that were not taken.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::cli::latency::percentile;
use crate::cli::output::table;
use crate::cli::send::delivery::Delivery;
use crate::cli::send::selection::Outgoing;

/// Most events that are listed one by one.
const MAX_LISTED: usize = 20;

/// For people and as JSON.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub deliveries: usize,
    pub attempts: usize,
    /// By outcome, `refused with 400`, or `no answer`.
    pub answers: BTreeMap<String, Figures>,
    /// Not taken, or taken as `failed`.
    pub complaints: Vec<Complaint>,
    pub seconds: f64,
    pub per_second: f64,
}

/// How many events got an answer, and how long it took to come.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub events: usize,
    pub attempts: usize,
    pub p50_milliseconds: f64,
    pub p99_milliseconds: f64,
    #[serde(skip)]
    took: Vec<Duration>,
}

/// One event that was not taken.
#[derive(Clone, Debug, Serialize)]
pub struct Complaint {
    pub at: String,
    pub event_type: String,
    /// `None`: there was no answer.
    pub status: Option<u16>,
    pub reason: String,
}

impl Summary {
    /// Counts.
    pub fn new(outgoing: &[Outgoing], deliveries: &[Delivery], seconds: f64) -> Summary {
        let mut summary = Summary { deliveries: deliveries.len(), seconds, ..Summary::default() };
        for (one, delivery) in outgoing.iter().zip(deliveries) {
            summary.attempts += delivery.attempts;
            let name = delivery.answer.as_ref().map_or_else(|_| "no answer".to_owned(), ToString::to_string);
            let figures = summary.answers.entry(name.clone()).or_default();
            figures.events += 1;
            figures.attempts += delivery.attempts;
            figures.took.extend(delivery.answer.as_ref().ok().map(|answer| answer.took));
            summary.complaints.extend(complaint(one, delivery, &name));
        }
        for figures in summary.answers.values_mut() {
            figures.took.sort();
            figures.p50_milliseconds = percentile(&figures.took, 50);
            figures.p99_milliseconds = percentile(&figures.took, 99);
        }
        summary.per_second = rate(summary.deliveries, seconds);
        summary
    }

    /// Whether every event was taken, and none as `failed`.
    pub fn is_well(&self) -> bool {
        self.complaints.is_empty()
    }

    /// A table of answers.
    pub fn to_text(&self) -> String {
        let mut table = table(&["answer", "events", "attempts", "p50 ms", "p99 ms"]);
        for (answer, figures) in &self.answers {
            let milliseconds = |value: f64| if figures.took.is_empty() { String::new() } else { format!("{value:.1}") };
            table.add_row([
                answer.clone(),
                figures.events.to_string(),
                figures.attempts.to_string(),
                milliseconds(figures.p50_milliseconds),
                milliseconds(figures.p99_milliseconds),
            ]);
        }
        format!("{table}\n\n{} events in {:.1} s, {:.0} a second", self.deliveries, self.seconds, self.per_second)
    }

    /// Which events were not taken, and what helps.
    pub fn advice(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for complaint in self.complaints.iter().take(MAX_LISTED) {
            lines.push(format!("{}: {}: {}", complaint.at, complaint.event_type, complaint.reason));
        }
        if self.complaints.len() > MAX_LISTED {
            lines.push(format!("and {} more", self.complaints.len() - MAX_LISTED));
        }
        let any = |matches: &dyn Fn(&Complaint) -> bool| self.complaints.iter().any(matches);
        if any(&|it| it.status == Some(400) && it.reason.contains("signature")) {
            lines.push(
                "The server has another secret, or its clock differs: give STRIPE_WEBHOOK_SECRETS and CLERK_WEBHOOK_SECRETS the \
                 values that the server has"
                    .to_owned(),
            );
        }
        if any(&|it| it.status == Some(404)) {
            lines.push(
                "The server has no secret for that provider, so the route does not exist; or --to is another server's address"
                    .to_owned(),
            );
        }
        if any(&|it| it.status == Some(503)) {
            lines.push("The server could not commit: its /readyz and its log say why".to_owned());
        }
        if any(&|it| it.reason.starts_with("taken as failed")) {
            lines.push("billsync inspect event ID names what of a failed event cannot be read".to_owned());
        }
        lines
    }
}

fn complaint(one: &Outgoing, delivery: &Delivery, name: &str) -> Option<Complaint> {
    let (status, reason) = match &delivery.answer {
        Ok(answer) if answer.outcome.as_deref() == Some("failed") => (Some(answer.status), "taken as failed".to_owned()),
        Ok(answer) if answer.outcome.is_some() => return None,
        Ok(answer) => {
            (Some(answer.status), answer.detail.as_ref().map_or_else(|| name.to_owned(), |detail| format!("{name}: {detail}")))
        }
        Err(cause) => (None, format!("no answer after {} attempts: {cause}", delivery.attempts)),
    };
    Some(Complaint { at: one.at.clone(), event_type: one.event_type(), status, reason })
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(events: usize, seconds: f64) -> f64 {
    events as f64 / seconds.max(0.001)
}
