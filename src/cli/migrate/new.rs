//! `billsync migrate new NAME`: the file of a further migration.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::cli::Exit;
use crate::cli::output::print;

/// Longest name of a migration.
const NAME_WIDTH: usize = 60;

/// Make the file of a further migration, with the next number
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  billsync migrate new add_invoices_due_index\n\n\
    For work on billsync itself, in its checkout. The rules are in migrations/README.md.")]
pub struct NewArgs {
    /// What it does, in lower case with underscores
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// The folder of the migrations
    #[arg(long, value_name = "DIR", default_value = "migrations")]
    dir: PathBuf,
}

impl NewArgs {
    /// Writes the file and prints its path.
    pub fn run(&self) -> anyhow::Result<Exit> {
        let next = self.next_number()?;
        let path = self.dir.join(format!("{next:04}_{}.sql", self.name));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = file.as_mut().map_err(|error| std::io::Error::new(error.kind(), error.to_string()));
        written.and_then(|file| file.write_all(header(&self.name).as_bytes())).with_context(|| path.display().to_string())?;
        print(&path.display().to_string())?;
        Ok(Exit::Success)
    }

    /// One more than the greatest; refuses a name that a migration has.
    fn next_number(&self) -> anyhow::Result<u32> {
        let folder = self.dir.display();
        let entries = fs::read_dir(&self.dir)
            .with_context(|| format!("{folder}: run this in a checkout of billsync, or name the folder with --dir"))?;
        let mut greatest = None;
        for entry in entries {
            let name = entry.with_context(|| folder.to_string())?.file_name();
            let Some((number, what)) = name.to_str().and_then(numbered) else { continue };
            ensure!(what != self.name, "{} has that name already", Path::new(&self.dir).join(&name).display());
            greatest = greatest.max(Some(number));
        }
        let Some(greatest) = greatest else { bail!("{folder} holds no migration (NNNN_what.sql): is it the right folder?") };
        ensure!(greatest < 9999, "there is no number left of four digits");
        Ok(greatest + 1)
    }
}

/// The number and the name of `NNNN_what.sql`.
fn numbered(file: &str) -> Option<(u32, &str)> {
    let (number, what) = file.strip_suffix(".sql")?.split_once('_')?;
    Some((number.parse().ok()?, what))
}

fn parse_name(text: &str) -> Result<String, String> {
    let is_plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let has_words = text.split('_').all(|word| !word.is_empty()) && text.starts_with(|c: char| c.is_ascii_lowercase());
    if !is_plain || !has_words {
        return Err("has to be words in lower case, joined by underscores, such as add_invoices_due_index".into());
    }
    if text.len() > NAME_WIDTH {
        return Err(format!("is longer than {NAME_WIDTH} characters"));
    }
    Ok(text.to_owned())
}

fn header(name: &str) -> String {
    format!(
        "-- {}: say here what this makes and why, in a sentence or two.\n--\n\
         -- Expand, then contract: the previous version keeps running on the new schema. A new table or view ends with\n\
         -- `select billsync.unpublish('schema.name');`. A file that has been released is never edited. See README.md.\n",
        name.replace('_', " ")
    )
}
