//! What a server took in, how fast it answered, and whether that is enough.

use serde::Serialize;

use crate::cli::Exit;
use crate::cli::bench::ingest::load::{Kind, Load, Tally};
use crate::cli::latency::Latency;
use crate::cli::output::table;

/// What is enough; `None`: anything.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Budget {
    pub min_rate: Option<f64>,
    pub max_p99_milliseconds: Option<f64>,
}

/// For people and as JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    run: String,
    users: u64,
    concurrency: usize,
    /// Of those that were measured, the answered ones.
    events: usize,
    seconds: f64,
    /// Answered with 200, and not `failed`.
    taken_per_second: f64,
    milliseconds: Latency,
    answers: Vec<AnswerLine>,
    /// What making the users was answered.
    warm_up: Vec<AnswerLine>,
    warm_up_seconds: f64,
    budget: Budget,
    is_met: bool,
    /// Why it was ended, if it was.
    ended_early: Option<String>,
}

#[derive(Debug, Serialize)]
struct AnswerLine {
    /// The outcome, `refused with 503`, or `no answer`.
    answer: String,
    /// `None`: there was no answer.
    status: Option<u16>,
    events: usize,
    milliseconds: Latency,
}

impl AnswerLine {
    fn is_taken(kind: &Kind) -> bool {
        kind.1 == Some(200) && kind.0 != "failed"
    }
}

impl Report {
    /// Counts and judges.
    pub fn new(load: &Load, warm_up: &Tally, measured: &Tally, budget: Budget) -> Report {
        let answered = || measured.answers.iter().filter(|((_, status), _)| status.is_some());
        let milliseconds = Latency::of(answered().flat_map(|(_, took)| took.iter().copied()).collect());
        let taken = measured.answers.iter().filter(|(kind, _)| AnswerLine::is_taken(kind)).map(|(_, took)| took.len()).sum();
        let taken_per_second = rate(taken, measured.seconds);
        let is_met = budget.min_rate.is_none_or(|least| taken_per_second >= least)
            && budget.max_p99_milliseconds.is_none_or(|most| milliseconds.p99 <= most);
        Report {
            run: load.mix().run().to_owned(),
            users: load.users(),
            concurrency: load.concurrency(),
            events: answered().map(|(_, took)| took.len()).sum(),
            seconds: measured.seconds,
            taken_per_second,
            milliseconds,
            answers: lines(measured),
            warm_up: lines(warm_up),
            warm_up_seconds: warm_up.seconds,
            budget,
            is_met,
            ended_early: load.stop().reason(),
        }
    }

    /// Failure comes before a budget that was missed: what was not taken took no time.
    pub fn exit(&self) -> Exit {
        let lines = || self.warm_up.iter().chain(&self.answers);
        let all_taken = lines().all(|line| AnswerLine::is_taken(&(line.answer.clone(), line.status)));
        match (self.ended_early.is_none() && all_taken, self.is_met) {
            (false, _) => Exit::Failure,
            (true, false) => Exit::Difference,
            (true, true) => Exit::Success,
        }
    }

    /// A table of answers, the figures, and the verdict.
    pub fn to_text(&self) -> String {
        let mut table = table(&["answer", "status", "events", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
        for line in &self.answers {
            let status = line.status.map(|status| status.to_string()).unwrap_or_default();
            let latency = figures(&line.milliseconds);
            table.add_row([vec![line.answer.clone(), status, line.events.to_string()], latency.to_vec()].concat());
        }
        table.add_row(
            [vec!["all".to_owned(), String::new(), self.events.to_string()], figures(&self.milliseconds).to_vec()].concat(),
        );
        let warm_up: usize = self.warm_up.iter().map(|line| line.events).sum();
        format!(
            "{table}\n\n{:.0} events a second: {} in {:.1} s, {} at a time, of {} users; before, {warm_up} events in {:.1} s made the \
             users.\n{}",
            self.taken_per_second,
            self.events,
            self.seconds,
            self.concurrency,
            self.users,
            self.warm_up_seconds,
            self.verdict()
        )
    }

    fn verdict(&self) -> String {
        let judged = |is_met: bool| if is_met { "ok" } else { "MISSED" };
        let rate = self
            .budget
            .min_rate
            .map(|least| format!("at least {least} events a second: {}", judged(self.taken_per_second >= least)));
        let p99 = self
            .budget
            .max_p99_milliseconds
            .map(|most| format!("p99 at most {most} ms: {}", judged(self.milliseconds.p99 <= most)));
        let parts: Vec<String> = rate.into_iter().chain(p99).collect();
        if parts.is_empty() { "No budget was given.".to_owned() } else { format!("Budget: {}.", parts.join(", ")) }
    }

    /// What helps where something was not taken.
    pub fn advice(&self) -> Vec<String> {
        let mut advice: Vec<String> = self.ended_early.iter().cloned().collect();
        let any = |matches: &dyn Fn(&AnswerLine) -> bool| self.warm_up.iter().chain(&self.answers).any(matches);
        if any(&|line| line.status == Some(503)) {
            advice.push(
                "Some were refused with 503: the server's queue was full (BILLSYNC_QUEUE_EVENTS), or it could not commit; its /readyz \
                 and its log say why"
                    .to_owned(),
            );
        }
        if any(&|line| line.answer == "ignored") {
            advice
                .push("Some were ignored: is the server's BILLSYNC_LIVEMODE live? These events are of the test mode".to_owned());
        }
        if any(&|line| line.answer == "failed") {
            advice.push("Some were taken as failed: billsync inspect event ID names what cannot be read".to_owned());
        }
        advice
    }
}

fn lines(tally: &Tally) -> Vec<AnswerLine> {
    let line = |((answer, status), took): (&Kind, &Vec<std::time::Duration>)| AnswerLine {
        answer: answer.clone(),
        status: *status,
        events: took.len(),
        milliseconds: Latency::of(took.clone()),
    };
    tally.answers.iter().map(line).collect()
}

fn figures(latency: &Latency) -> [String; 4] {
    [latency.p50, latency.p90, latency.p99, latency.max].map(|milliseconds| format!("{milliseconds:.1}"))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(events: usize, seconds: f64) -> f64 {
    events as f64 / seconds.max(0.001)
}
