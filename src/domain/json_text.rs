//! JSON text, read in one pass into a flat index of its values: no tree, no copies, no recursion, whatever the depth.
//! The same pass notes what jsonb refuses, so that a text can be rewritten before it is kept. There is no knowledge of any
//! provider here.

mod field;
mod kept;
mod parser;
mod rewrite;
mod storable;
mod text;
mod value;

pub use field::{LONGEST_ID, Unreadable, readable_milliseconds, readable_seconds, required_id, required_text};
pub use kept::JsonText;
pub use parser::SyntaxError;
pub use rewrite::{Edit, Edits};
pub use storable::{STORABLE_DEPTH, STORABLE_NUMBER, Unstorable};
pub use value::{Elements, Keys, Members, Value};

/// Nesting that is read; deeper text is kept, not interpreted. Stack-based readers further on, Postgres among them, stay
/// far below their own limits.
pub const MAX_DEPTH: usize = 128;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
    /// The name of an object's member; its value is the next entry of the index.
    Key,
}

/// One value or key: where it stands and where the next one after all its content is.
#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    /// The index of the first node behind it and its content.
    next: u32,
    kind: Kind,
    /// Whether a string has escapes.
    escaped: bool,
    /// Of a key: [`text::fingerprint`] of its name, so that looking for a name reads no text but that of its bearer.
    fingerprint: u16,
}

/// What keeps a text from being stored or read as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlawKind {
    /// `\u0000`, which neither `text` nor `jsonb` can hold.
    Nul,
    /// Half of a surrogate pair.
    LoneSurrogate,
    /// A number beyond Postgres' `numeric`.
    BeyondNumeric,
    /// A number that `numeric` holds and a double does not.
    BeyondDouble,
}

#[derive(Clone, Copy, Debug)]
struct Flaw {
    start: u32,
    end: u32,
    kind: FlawKind,
}

/// A JSON text and the index of its values.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    nodes: Vec<Node>,
    flaws: Vec<Flaw>,
    depth: usize,
}

impl<'a> Document<'a> {
    /// Reads a whole text: one value, with nothing but white space around it.
    pub fn parse(text: &'a str) -> Result<Document<'a>, SyntaxError> {
        parser::parse(text)
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value::new(self, 0)
    }

    /// How deep arrays and objects are nested; 0 for a scalar.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Every member with one of these names, of any object at any depth, as (key, value).
    #[inline]
    pub fn find_all<const N: usize>(&self, names: &Keys<N>) -> impl Iterator<Item = (Value<'_>, Value<'_>)> {
        // A bit for each of 256 classes of names rules out nearly every node at once.
        let mut classes = [0u64; 4];
        for fingerprint in names.fingerprints {
            let class = fingerprint as u8;
            classes[usize::from(class >> 6)] |= 1 << (class & 63);
        }
        let is_candidate = move |node: &Node| {
            let class = node.fingerprint as u8;
            classes[usize::from(class >> 6)] >> (class & 63) & 1 != 0 && node.kind == Kind::Key
        };
        let candidates = self.nodes.iter().enumerate().filter(move |(_, node)| is_candidate(node));
        let members = candidates.map(|(index, _)| (Value::new(self, index), Value::new(self, index + 1)));
        members.filter(|(key, _)| names.names.iter().any(|name| key.says(name)))
    }
}

#[cfg(test)]
mod tests;
