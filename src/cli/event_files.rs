//! Finding the events in files: one JSON object, a JSON array of them, or one after the other (NDJSON). Says where each one
//! stands, so that a complaint names file, line and column.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::cli::output::complain;
use crate::domain::event::Provider;

/// Where an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A file whose text is in memory.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    text: String,
}

/// One event's text, untouched.
#[derive(Clone, Debug)]
pub struct FoundEvent {
    pub at: Position,
    pub provider: Provider,
    /// The id that the file gives a Clerk event, whose body has none.
    pub event_id: Option<String>,
    pub body: Bytes,
}

/// JSON, but not an event.
#[derive(Debug, Error)]
#[error("{0}: not an event of Stripe's or Clerk's: an object with type, data, and created or timestamp")]
pub struct NotAnEvent(pub Position);

/// A file to read, and whether it was named itself rather than found in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListedFile {
    pub path: PathBuf,
    pub is_named: bool,
}

/// Every file that the paths name, folders walked in order of name. Of a folder only `.json`, `.ndjson` and `.jsonl` files.
fn list_files(paths: &[PathBuf]) -> anyhow::Result<Vec<ListedFile>> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        if metadata.is_dir() {
            let mut found = Vec::new();
            walk(path, &mut found)?;
            files.extend(found.into_iter().map(|path| ListedFile { path, is_named: false }));
        } else {
            files.push(ListedFile { path: path.clone(), is_named: true });
        }
    }
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| folder.display().to_string())?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|ext| ["json", "ndjson", "jsonl"].iter().any(|known| ext == *known)) {
            files.push(path);
        }
    }
    Ok(())
}

/// Every event of the files and folders, in memory. A file that is malformed anywhere is an error, but one found in a folder
/// that holds other things than events is left out.
pub fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<FoundEvent>> {
    let mut found = Vec::new();
    for file in check_files(paths)?.0 {
        found.extend(EventFile::read(&file)?.events()?);
    }
    Ok(found)
}

/// The files that hold events, and how many events there are.
pub fn check_files(paths: &[PathBuf]) -> anyhow::Result<(Vec<PathBuf>, usize)> {
    let mut files = Vec::new();
    let mut count = 0;
    let mut left_out = Vec::new();
    for file in list_files(paths)? {
        match EventFile::read(&file.path)?.events() {
            Ok(events) => {
                count += events.len();
                files.push(file.path);
            }
            Err(error) if !file.is_named && error.is::<NotAnEvent>() => left_out.push(file.path),
            Err(error) => return Err(error),
        }
    }
    if let Some(path) = left_out.first() {
        complain(&format!("left out {} files that do not hold events alone, such as {}", left_out.len(), path.display()));
    }
    ensure!(count > 0, no_event_in(paths));
    Ok((files, count))
}

/// What to say where files and folders hold no event.
pub fn no_event_in(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("there is no event in {}: of a folder the files .json, .ndjson and .jsonl are read", names.join(", "))
}

impl EventFile {
    /// Reads a file.
    pub fn read(path: &Path) -> anyhow::Result<EventFile> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        EventFile::new(path, bytes)
    }

    fn new(path: &Path, bytes: Vec<u8>) -> anyhow::Result<EventFile> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(EventFile { path: path.to_owned(), text }),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let bytes = error.into_bytes();
                let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
                let (line, column) = position(&before, before.len());
                bail!("{}:{line}:{column}: not valid UTF-8", path.display())
            }
        }
    }

    /// The events in it, in order. Nothing is returned of a file that is malformed anywhere.
    pub fn events(&self) -> anyhow::Result<Vec<FoundEvent>> {
        let mut events = Vec::new();
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
            let raw = value.map_err(|error| self.malformed(text, 0, &error))?;
            if raw.get().starts_with('[') {
                let elements: Vec<&RawValue> =
                    serde_json::from_str(raw.get()).map_err(|error| self.malformed(text, offset_in(text, raw), &error))?;
                for element in elements {
                    events.push(self.event(text, element)?);
                }
            } else {
                events.push(self.event(text, raw)?);
            }
        }
        if events.is_empty() {
            bail!("{}:1:1: no event", self.path.display());
        }
        Ok(events)
    }

    fn malformed(&self, text: &str, base: usize, error: &serde_json::Error) -> anyhow::Error {
        let (line, column) = position(text, base + offset(text.get(base..).unwrap_or_default(), error.line(), error.column()));
        let message = error.to_string();
        let reason = message.split(" at line ").next().unwrap_or("not valid JSON");
        anyhow::anyhow!("{}:{line}:{column}: {reason}", self.path.display())
    }

    fn event(&self, text: &str, raw: &RawValue) -> anyhow::Result<FoundEvent> {
        let (line, column) = position(text, offset_in(text, raw));
        let at = Position { file: self.path.clone(), line, column };
        // Deserialised leniently: an envelope with a field of a wrong type is the decoder's to complain about.
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(raw.get()) else { bail!(NotAnEvent(at)) };
        let provider = match envelope {
            Envelope { kind: None, .. } => bail!(NotAnEvent(at)),
            Envelope { created: Some(_), .. } => Provider::Stripe,
            Envelope { timestamp: Some(_), .. } => Provider::Clerk,
            _ => bail!(NotAnEvent(at)),
        };
        Ok(FoundEvent { at, provider, event_id: envelope.svix_id, body: Bytes::copy_from_slice(raw.get().as_bytes()) })
    }
}

impl FoundEvent {
    /// The `svix-id` of a Clerk event: the file's, else 128 bits of the contents' hash, so that the same contents are the
    /// same event.
    pub fn message_id(&self) -> String {
        self.event_id.clone().unwrap_or_else(|| {
            let digest = Sha256::digest(&self.body);
            format!("replay:{}", hex::encode(digest.iter().copied().take(16).collect::<Vec<u8>>()))
        })
    }
}

/// As much of an event as tells whose it is.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    svix_id: Option<String>,
}

/// Where a part of a text begins in it.
fn offset_in(text: &str, part: &RawValue) -> usize {
    (part.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// The byte offset of a line and column as serde_json counts them: from 1, columns in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// Line and column, from 1, of a byte offset; columns in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Vec<FoundEvent>> {
        EventFile::new(Path::new("events.json"), text.as_bytes().to_vec())?.events()
    }

    fn problem(text: &str) -> String {
        format!("{:#}", read(text).expect_err("refused"))
    }

    const STRIPE: &str = r#"{"id": "evt_1", "object": "event", "created": 1, "type": "a", "data": {}}"#;
    const CLERK: &str = r#"{"object": "event", "timestamp": 1, "type": "a", "data": {}}"#;

    #[test]
    fn an_object_an_array_and_lines_are_all_events() {
        assert_eq!(read(STRIPE).expect("one")[0].provider, Provider::Stripe);
        let array = read(&format!("[\n  {STRIPE},\n  {CLERK}\n]\n")).expect("two");
        assert_eq!(
            array.iter().map(|e| (e.provider, e.at.line, e.at.column)).collect::<Vec<_>>(),
            [(Provider::Stripe, 2, 3), (Provider::Clerk, 3, 3),]
        );
        assert_eq!(&array[1].body[..], CLERK.as_bytes());
        let lines = read(&format!("{STRIPE}\n\n{CLERK}\n{STRIPE}")).expect("three");
        assert_eq!(lines.iter().map(|e| e.at.line).collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn a_mistake_names_file_line_and_column() {
        assert!(problem(&format!("{STRIPE}\n{{\"id\": ,}}\n")).starts_with("events.json:2:8: expected value"));
        assert!(problem(&format!("[{STRIPE},\n\n {STRIPE}, x]")).starts_with("events.json:3:"));
        assert!(problem("{\"created\": 1").starts_with("events.json:1:"));
        assert!(problem(" \n").starts_with("events.json:1:1: no event"));
        assert!(problem(&format!("{STRIPE}\n\"é\" 7")).starts_with("events.json:2:1: not an event"));
        assert!(problem("{\"id\": \"evt_1\"}").starts_with("events.json:1:1: not an event"));
        let invalid = EventFile::new(Path::new("events.json"), b"{}\n  \xff".to_vec()).expect_err("refused");
        assert_eq!(invalid.to_string(), "events.json:2:3: not valid UTF-8");
    }

    #[test]
    fn deep_nesting_is_for_the_decoder_to_judge() {
        let deep = format!("{{\"created\": 1, \"type\": \"a\", \"data\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep).expect("one").len(), 1);
    }
}
