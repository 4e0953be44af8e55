//! Rewriting a text before it is kept: redactions, dropped members, and what Postgres cannot hold.

use std::borrow::Cow;
use std::ops::Range;

use super::{Document, Flaw, FlawKind, MAX_DEPTH, Value};

/// A stretch of the text and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub range: Range<usize>,
    pub replacement: &'static str,
}

/// What to change in a text, in any order; an edit inside another one is void.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    edits: Vec<Edit>,
}

impl Edits {
    /// Puts `replacement`, JSON text, in the place of a value.
    pub fn replace(&mut self, value: Value<'_>, replacement: &'static str) {
        self.edits.push(Edit { range: value.range(), replacement });
    }

    /// Takes members out of an object, with their commas.
    pub fn drop_members(&mut self, object: Value<'_>, dropped: impl Fn(Value<'_>) -> bool) {
        let mut members = object.members().peekable();
        let mut kept_until = None;
        while let Some((key, value)) = members.next() {
            if !dropped(key) {
                kept_until = Some(value.range().end);
                continue;
            }
            let range = match members.peek() {
                Some((next, _)) => key.range().start..next.range().start,
                // The last one takes the comma before it along.
                None => kept_until.unwrap_or(object.range().start + 1)..value.range().end,
            };
            self.edits.push(Edit { range, replacement: "" });
        }
    }

    fn covers(&self, flaw: &Flaw) -> bool {
        let covers = |edit: &Edit| edit.range.start <= flaw.start as usize && flaw.end as usize <= edit.range.end;
        self.edits.iter().any(covers)
    }
}

impl Document<'_> {
    /// The whole text after `edits`, otherwise as it came but for NUL; and whether jsonb can hold it.
    pub fn rewrite(&self, edits: &Edits) -> (Cow<'_, str>, bool) {
        let refused = |flaw: &Flaw| matches!(flaw.kind, FlawKind::LoneSurrogate | FlawKind::BeyondNumeric);
        let fits_jsonb = self.depth <= MAX_DEPTH && !self.flaws.iter().any(|flaw| refused(flaw) && !edits.covers(flaw));
        (self.apply(0..self.text.len(), edits, |flaw| flaw.kind == FlawKind::Nul), fits_jsonb)
    }

    /// The text of one value after `edits`, made fit for jsonb and for every other reader: U+FFFD for what is no
    /// character, null for what is no number.
    pub fn rewrite_value(&self, value: Value<'_>, edits: &Edits) -> Cow<'_, str> {
        self.apply(value.range(), edits, |_| true)
    }

    fn apply(&self, range: Range<usize>, edits: &Edits, mended: impl Fn(&Flaw) -> bool) -> Cow<'_, str> {
        let within = |edit: &Edit| range.start <= edit.range.start && edit.range.end <= range.end;
        let mut all: Vec<Edit> = edits.edits.iter().filter(|edit| within(edit)).cloned().collect();
        all.extend(self.flaws.iter().filter(|flaw| mended(flaw)).map(mend).filter(within));
        if all.is_empty() {
            return Cow::Borrowed(self.text.get(range).unwrap_or_default());
        }
        // At the same start the longer one decides.
        all.sort_by_key(|edit| (edit.range.start, std::cmp::Reverse(edit.range.end)));
        let mut rewritten = String::with_capacity(range.len());
        let mut at = range.start;
        for edit in all {
            if edit.range.start < at {
                continue;
            }
            rewritten.push_str(self.text.get(at..edit.range.start).unwrap_or_default());
            rewritten.push_str(edit.replacement);
            at = edit.range.end;
        }
        rewritten.push_str(self.text.get(at..range.end).unwrap_or_default());
        Cow::Owned(rewritten)
    }
}

fn mend(flaw: &Flaw) -> Edit {
    let replacement = match flaw.kind {
        FlawKind::Nul | FlawKind::LoneSurrogate => "\\ufffd",
        FlawKind::BeyondNumeric | FlawKind::BeyondDouble => "null",
    };
    Edit { range: flaw.start as usize..flaw.end as usize, replacement }
}
