//! What a query may take: so much for its kind, unless the command line says otherwise.

use crate::cli::arguments::positive;
use crate::cli::bench::queries::cases::{self, Case, Kind};

/// The budgets of [`Kind::milliseconds`], for people.
pub const DEFAULTS_TOLD: &str =
    "10 ms for one row by a key, 10 ms for a meter, 30 ms for a page of a list, 100 ms for a dashboard";

impl Kind {
    /// What the 99th percentile may be. Half of what a person notices, divided among what one request asks for.
    fn milliseconds(self) -> f64 {
        match self {
            Kind::Row | Kind::Meter => 10.0,
            Kind::Page => 30.0,
            Kind::Dashboard => 100.0,
        }
    }
}

/// `50`, or `dashboard=200`.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    word: Option<String>,
    milliseconds: f64,
}

impl Override {
    /// Reads it as it stands on the command line. A word of no query would be a budget that nothing is held to.
    pub fn parse(text: &str) -> Result<Override, String> {
        let (word, number) = match text.rsplit_once('=') {
            Some((word, number)) => (Some(cases::word(word)?), number),
            None => (None, text),
        };
        let milliseconds = positive(number).map_err(|_no_number| "has to be a number of milliseconds above 0, or WORD=MS")?;
        Ok(Override { word, milliseconds })
    }
}

/// Every query's budget.
#[derive(Clone, Debug)]
pub struct Budgets<'a> {
    overrides: &'a [Override],
}

impl Budgets<'_> {
    /// The usual ones with exceptions, of which the last that fits counts; one with a word comes before one without.
    pub fn new(overrides: &[Override]) -> Budgets<'_> {
        Budgets { overrides }
    }

    /// In milliseconds.
    pub fn of(&self, case: &Case) -> f64 {
        let named = |it: &&Override| it.word.as_ref().is_some_and(|word| case.name.contains(word.as_str()));
        let found = self.overrides.iter().rfind(named).or_else(|| self.overrides.iter().rfind(|it| it.word.is_none()));
        found.map_or_else(|| case.kind.milliseconds(), |it| it.milliseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_of_a_word_wins_over_one_of_all() {
        let parse = |text: &str| Override::parse(text).expect("an override");
        let cases = cases::select(None);
        let of = |overrides: &[Override], name: &str| {
            let case = cases.iter().find(|case| case.name == name).expect("a case");
            Budgets::new(overrides).of(case)
        };
        assert_eq!(of(&[], "dashboard"), 100.0);
        let overrides = [parse("dashboard=200"), parse("50")];
        assert_eq!((of(&overrides, "dashboard"), of(&overrides, "users: newest")), (200.0, 50.0));
        assert_eq!(of(&[parse("1"), parse("2")], "dashboard"), 2.0);
        for wrong in ["", "x", "0", "-1", "inf", "NaN", "dashboard=", "dashboard=x", "=5", "dashbord=5"] {
            assert!(Override::parse(wrong).is_err(), "{wrong}");
        }
    }
}
