//! How far a reading of Stripe's API is, on a terminal: what is being read, how fast, and how long the rest takes as far as
//! it is known.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::reconcile::Progress;

/// A line that is written anew.
#[derive(Debug)]
pub struct StripeProgress {
    bar: ProgressBar,
    began: Instant,
}

impl StripeProgress {
    /// Shows itself on a terminal only.
    pub fn start(began: Instant) -> anyhow::Result<StripeProgress> {
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(StripeProgress { bar, began })
    }

    /// Says how far it is.
    pub fn note(&self, progress: Progress) {
        self.bar.set_message(describe(progress, self.began.elapsed()));
    }

    /// Leaves nothing behind.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn describe(progress: Progress, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = progress.objects as f64 / seconds;
    let done = format!("{}: {} objects, {rate:.0}/s", progress.stage.name(), progress.objects);
    match progress.left {
        Some(left) if progress.done > 0 => {
            let per_unit = progress.stage_took.as_secs_f64() / progress.done as f64;
            format!("{done}, about {:.0} s left of this part", per_unit * left as f64)
        }
        _ => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Stage;

    #[test]
    fn the_rest_is_told_as_far_as_it_is_known() {
        let progress = Progress {
            stage: Stage::PaymentMethods,
            objects: 500,
            done: 100,
            left: Some(300),
            stage_took: Duration::from_secs(10),
        };
        let told = describe(progress, Duration::from_secs(20));
        assert_eq!(told, "payment-methods: 500 objects, 25/s, about 30 s left of this part");
        let unknown = Progress { left: None, ..progress };
        assert_eq!(describe(unknown, Duration::from_secs(20)), "payment-methods: 500 objects, 25/s");
    }
}
