//! `billsync completions SHELL`: what a shell needs to complete commands and flags.

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::output::print;
use crate::cli::{Cli, Exit};

/// Print what completes commands and flags in a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    billsync completions bash > billsync.bash\n  \
    billsync completions zsh > _billsync\n  \
    billsync completions fish > billsync.fish\n\n\
    Where the shell looks for it: the file for bash belongs into ~/.local/share/bash-completion/completions (as `billsync`),\n\
    that for zsh into a folder of $fpath, that for fish into ~/.config/fish/completions.")]
pub struct CompletionsCommand {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    /// Prints the script.
    pub fn run(&self) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "billsync", &mut script);
        print(std::str::from_utf8(&script).context("the completions are no text")?)?;
        Ok(Exit::Success)
    }
}
