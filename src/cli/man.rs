//! `billsync man`: manual pages, one for each command and subcommand, made from what `--help` says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::failure::WrongUse;
use crate::cli::output::print;
use crate::cli::{Cli, Exit};
use crate::config::SETTINGS;

const MANUAL: &str = "billsync manual";

/// Print a manual page, or write all of them into a folder
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync man > billsync.1\n  \
    billsync man users link > billsync-users-link.1\n  \
    billsync man --dir man1\n\n\
    `man ./billsync.1` shows a page. Pages in ~/.local/share/man/man1 or /usr/local/share/man/man1 are found by name:\n\
    `man billsync-users-link`.")]
pub struct ManCommand {
    /// The command whose page to print, word by word; without one, the page of billsync itself
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder, which is made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ManCommand {
    /// Prints or writes.
    pub fn run(&self) -> anyhow::Result<Exit> {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        match &self.dir {
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
                let written = write_pages(&root, folder)?;
                print(&format!("Wrote {written} pages to {}.", folder.display()))?;
            }
            None => print(&page(find(&root, &self.command)?)?)?,
        }
        Ok(Exit::Success)
    }
}

/// The command that these words call; else what is wrong with them.
fn find<'a>(root: &'a Command, words: &[String]) -> Result<&'a Command, WrongUse> {
    words.iter().try_fold(root, |found, word| {
        let name = bin_name(found);
        let unknown = || WrongUse(format!("there is no command {word:?} in `{name}`; see `{name} --help`"));
        found.find_subcommand(word).ok_or_else(unknown)
    })
}

/// How the command is called: `billsync users link`.
fn bin_name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or("billsync")
}

/// Writes the page of a command and those of its subcommands; returns how many.
fn write_pages(command: &Command, folder: &Path) -> anyhow::Result<usize> {
    let path = folder.join(format!("{}.1", title(command)));
    std::fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    let mut written = 1;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        written += write_pages(subcommand, folder)?;
    }
    Ok(written)
}

/// What the page is called: `billsync-users-link`.
fn title(command: &Command) -> String {
    bin_name(command).replace(' ', "-")
}

fn page(command: &Command) -> anyhow::Result<String> {
    let source = format!("billsync {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(title(command).to_uppercase()).source(source).manual(MANUAL);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    let mut rest = Roff::default();
    add_what_help_ends_with(command, &mut rest);
    if title(command) == "billsync" {
        add_environment(&mut rest);
    } else {
        rest.control("SH", ["SEE ALSO"]);
        rest.text([bold("billsync"), roman("(1)")]);
    }
    rest.to_writer(&mut page)?;
    String::from_utf8(page).context("the page is no text")
}

/// The examples line by line, and what follows them as notes.
fn add_what_help_ends_with(command: &Command, page: &mut Roff) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (examples, notes): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("  ") || is_heading(line));
    if examples.iter().any(|line| !is_heading(line)) {
        page.control("SH", ["EXAMPLES"]);
        page.control("nf", []);
        for line in examples.iter().filter(|line| !is_heading(line)) {
            page.text([roman(line.trim_start())]);
        }
        page.control("fi", []);
    }
    let notes: Vec<&str> = notes.into_iter().filter(|line| !line.is_empty()).collect();
    if !notes.is_empty() {
        page.control("SH", ["NOTES"]);
        for line in notes {
            page.text([roman(line)]);
        }
    }
}

fn is_heading(line: &str) -> bool {
    matches!(line, "Example:" | "Examples:")
}

fn add_environment(page: &mut Roff) {
    page.control("SH", ["ENVIRONMENT"]);
    for setting in SETTINGS {
        page.control("TP", []);
        page.text([bold(setting.name), roman(format!(" (default: {})", setting.default))]);
        page.text([roman(setting.meaning)]);
    }
}
