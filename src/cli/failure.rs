//! What went wrong: told once, in words to a person or as one JSON object to a program, and with which exit code it ends.

use std::ffi::OsString;

use serde::Serialize;
use thiserror::Error;

use crate::cli::Exit;
use crate::cli::database::UnusableDatabase;
use crate::cli::output::complain;
use crate::config::ConfigError;
use crate::reconcile::ReconcileError;

/// What helps with every [`UnusableDatabase`].
const LOOK_AT_DATABASE: &str = "`billsync doctor` tells what is wrong with a database, and what helps.";

/// The command line, or a setting that it needs, asks for what cannot be: found by the command itself, after both could be read.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct WrongUse(pub String);

/// An error for programs; together with the exit code all that there is to know.
#[derive(Debug, PartialEq, Serialize)]
struct Failure {
    error: String,
    /// Of settings: each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// What to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    exit_code: u8,
}

/// Whether somebody who reads JSON has called. Looked for before the command line is understood, for that may be what is wrong.
pub fn is_json_asked(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

/// Answers a command line that cannot be understood, or asks for help.
pub fn tell_misunderstood(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() {
        // Nothing is left to do when even this cannot be written.
        let _ = error.print();
        return Exit::Success;
    }
    if json {
        let text = error.render().to_string();
        let (words, _usage) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
        let words = words.trim_start_matches("error: ").split_whitespace().collect::<Vec<&str>>().join(" ");
        print_as_json(&Failure { error: words, problems: Vec::new(), hint: None, exit_code: Exit::Usage as u8 });
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

/// Tells on the error stream what went wrong, and returns how the process ends.
pub fn tell(error: &anyhow::Error, json: bool) -> Exit {
    let failure = describe(error);
    if json {
        print_as_json(&failure);
    } else if failure.problems.is_empty() {
        complain(&format!("error: {}", failure.error));
        failure.hint.iter().for_each(|hint| complain(hint));
    } else {
        complain(&format!("{}:", failure.error));
        failure.problems.iter().for_each(|problem| complain(&format!("  {problem}")));
    }
    if failure.exit_code == Exit::Usage as u8 { Exit::Usage } else { Exit::Failure }
}

fn describe(error: &anyhow::Error) -> Failure {
    if let Some(refusal) = error.downcast_ref::<ConfigError>() {
        let words = "billsync does not start with these settings".to_owned();
        return Failure { error: words, problems: refusal.problems.clone(), hint: None, exit_code: Exit::Usage as u8 };
    }
    let is_key_missing = matches!(error.downcast_ref(), Some(ReconcileError::NoKey(_)));
    let is_use_wrong = is_key_missing || error.downcast_ref::<WrongUse>().is_some();
    Failure {
        error: causes_once(error),
        problems: Vec::new(),
        hint: error.downcast_ref::<UnusableDatabase>().map(|_| LOOK_AT_DATABASE),
        exit_code: if is_use_wrong { Exit::Usage as u8 } else { Exit::Failure as u8 },
    }
}

fn print_as_json(failure: &Failure) {
    // It holds texts and a number, which can always be written.
    complain(&serde_json::to_string(failure).unwrap_or_default());
}

/// An error and its causes in a line; those that an error above tells already are not told again.
pub fn causes_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow!("refused").context("connection: refused").context("cannot use it");
        assert_eq!(causes_once(&error), "cannot use it: connection: refused");
    }

    #[test]
    fn what_was_asked_wrongly_is_told_from_what_went_wrong() {
        let code = |error: anyhow::Error| describe(&error).exit_code;
        assert_eq!(code(anyhow!("the disk is full")), 1);
        assert_eq!(code(WrongUse("--at is still to come".into()).into()), 2);
        assert_eq!(code(anyhow!(WrongUse("a".into())).context("while b")), 2);
        assert_eq!(code(ReconcileError::NoKey("STRIPE_API_KEY").into()), 2);
        assert_eq!(code(ConfigError { problems: vec!["X: is set but empty".into()] }.into()), 2);
    }

    #[test]
    fn json_is_a_flag_and_no_argument_behind_the_flags() {
        let asked = |words: &[&str]| is_json_asked(&words.iter().map(OsString::from).collect::<Vec<OsString>>());
        assert!(asked(&["billsync", "plans", "list", "--json"]) && asked(&["billsync", "serv", "--json"]));
        assert!(!asked(&["--json"]) && !asked(&["billsync", "plans", "list"]) && !asked(&["billsync", "replay", "--", "--json"]));
    }
}
