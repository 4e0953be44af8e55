//! What every command says of itself: `--help` with an example, a manual page, completions.

use std::collections::BTreeSet;
use std::process::Command;

use super::{billsync, run, run_plain};
use crate::support::examples::help::{CommandHelp, commands};
use crate::support::examples::{collected, try_all};

fn printed(arguments: &[&str]) -> String {
    let (code, printed, complaints) = run_plain(arguments);
    assert_eq!((code, complaints.as_str()), (0, ""), "{arguments:?}");
    printed
}

#[test]
fn every_command_has_an_example_of_itself() {
    let commands = commands();
    assert!(commands.len() > 30, "{commands:#?}");
    for command in &commands {
        let called = command.name();
        assert!(command.examples.iter().any(|line| line.contains(&called)), "no example of `{called}` in its --help");
        let description = command.text.lines().next().unwrap_or_default();
        assert!(description.len() > 10, "{called} does not say what it does");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_every_command_works() {
    try_all(collected::of_help()).await;
}

#[test]
fn every_command_has_a_manual_page_with_its_flags_and_examples() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    printed(&["man", "--dir", pages.to_str().unwrap()]);
    let mut expected = BTreeSet::new();
    for CommandHelp { path, examples, text } in commands() {
        let file = format!("{}.1", [&["billsync".to_owned()], path.as_slice()].concat().join("-"));
        let page = std::fs::read_to_string(pages.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let words: Vec<&str> = ["man"].into_iter().chain(path.iter().map(String::as_str)).collect();
        assert_eq!(printed(&words).trim_end(), page.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
        let plain = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "").replace("\\*(Aq", "'");
        for example in examples {
            assert!(plain.contains(example.trim()), "{file} lacks {example:?}:\n{plain}");
        }
        for flag in text.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
            let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(plain.contains(flag), "{file} lacks {flag}:\n{plain}");
        }
        expected.insert(file);
    }
    let written: BTreeSet<String> =
        std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(written, expected);
    assert!(printed(&["man"]).contains("BILLSYNC_LISTEN"));

    let (code, nothing, complaints) = run_plain(&["man", "users", "lnik"]);
    assert_eq!((code, nothing.as_str()), (2, ""));
    assert!(complaints.contains("billsync users --help"), "{complaints}");
    let file = pages.join("billsync.1");
    let (code, _, complaints) = run_plain(&["man", "--dir", file.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(complaints.contains("billsync.1"), "{complaints}");
}

#[test]
fn a_shell_completes_commands_and_flags() {
    let script = printed(&["completions", "bash"]);
    // As bash calls it when somebody types these words and Tab.
    let completed = |typed: &str| {
        let words: Vec<&str> = typed.split(' ').collect();
        let (last, before) = (words.len() - 1, words.len().saturating_sub(2));
        let ask = format!(
            "{script}\nCOMP_WORDS=({typed})\nCOMP_CWORD={last}\n_billsync billsync '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words[last], words[before]
        );
        let (code, printed, complaints) = run(Command::new("bash").args(["--norc", "-c", &ask]));
        assert_eq!(code, 0, "{complaints}");
        printed.split_whitespace().map(str::to_owned).collect::<BTreeSet<String>>()
    };
    assert_eq!(completed("billsync users l"), ["link", "list"].map(str::to_owned).into());
    assert_eq!(completed("billsync migrate baseline --dry"), ["--dry-run".to_owned()].into());
    assert!(!completed("billsync p").contains("postgres-guard"));
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for CommandHelp { path, .. } in commands() {
            assert!(path.iter().all(|word| script.contains(word.as_str())), "{shell} does not know {path:?}");
        }
    }
    assert_eq!(run_plain(&["completions", "tcsh"]).0, 2);
}

#[test]
fn neither_needs_settings_that_can_be_read() {
    for command in ["man", "completions"] {
        let arguments: &[&str] = if command == "man" { &["man"] } else { &["completions", "bash"] };
        let mut wrong = billsync(arguments);
        assert_eq!(run(wrong.env("BILLSYNC_LISEN", "x").env("DATABASE_URL", "x")).0, 0);
    }
}
