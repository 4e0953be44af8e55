//! A value of a [`Document`], as cheap to pass around as two numbers. Every accessor is lenient: the wrong type is `None`.

use std::borrow::Cow;
use std::ops::Range;

use super::{Document, Kind, Node, text};

/// A value, or a key, of a document.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    document: &'a Document<'a>,
    index: usize,
}

const NOTHING: Node = Node { start: 0, end: 0, next: u32::MAX, kind: Kind::Null, escaped: false, fingerprint: 0 };

impl<'a> Value<'a> {
    pub(super) fn new(document: &'a Document<'a>, index: usize) -> Value<'a> {
        Value { document, index }
    }

    #[inline]
    fn node(self) -> &'a Node {
        self.document.nodes.get(self.index).unwrap_or(&NOTHING)
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where it stands in the text, in bytes.
    pub fn range(self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// The text of it, as it stands.
    #[inline]
    pub fn raw(self) -> &'a str {
        self.document.text.get(self.range()).unwrap_or_default()
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// What a string or key says.
    #[inline]
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let node = self.node();
        if !matches!(node.kind, Kind::String | Kind::Key) {
            return None;
        }
        let inside = self.document.text.get(node.start as usize + 1..(node.end as usize).saturating_sub(1))?;
        Some(if node.escaped { text::unescape(inside) } else { Cow::Borrowed(inside) })
    }

    /// A string that says something: empty ones count as absent.
    pub fn as_text(self) -> Option<String> {
        self.as_str().filter(|text| !text.is_empty()).map(Cow::into_owned)
    }

    /// Whether a string or key says `expected`.
    #[inline]
    pub fn says(self, expected: &str) -> bool {
        let node = self.node();
        if node.escaped {
            return self.as_str().is_some_and(|text| text == expected);
        }
        // The quotes stand around it.
        (node.end - node.start) as usize == expected.len() + 2
            && matches!(node.kind, Kind::String | Kind::Key)
            && self
                .document
                .text
                .as_bytes()
                .get(node.start as usize + 1..node.end as usize - 1)
                .is_some_and(|inside| text::equal(inside, expected.as_bytes()))
    }

    /// A boolean.
    pub fn as_bool(self) -> Option<bool> {
        match (self.kind(), self.raw()) {
            (Kind::Bool, raw) => Some(raw == "true"),
            _ => None,
        }
    }

    /// A whole number. A fraction is cut off: some writers spell whole numbers `1.7e9`.
    pub fn as_i64(self) -> Option<i64> {
        if self.kind() != Kind::Number {
            return None;
        }
        self.raw().parse().ok().or_else(|| {
            let number: f64 = self.raw().parse().ok()?;
            // Beyond this, a double no longer holds every whole number.
            (number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
        })
    }

    /// The members of an object, in the order of the text, doubles included; nothing for any other value.
    pub fn members(self) -> Members<'a> {
        let node = self.node();
        let end = if node.kind == Kind::Object { node.next as usize } else { 0 };
        Members { document: self.document, at: self.index + 1, end }
    }

    /// The elements of an array; nothing for any other value.
    pub fn elements(self) -> Elements<'a> {
        let node = self.node();
        let end = if node.kind == Kind::Array { node.next as usize } else { 0 };
        Elements { document: self.document, at: self.index + 1, end }
    }

    /// The members of these names, in one pass. As in jsonb, the last of several wins; null is the same as absent.
    #[inline]
    pub fn pick<const N: usize>(self, names: &Keys<N>) -> [Option<Value<'a>>; N] {
        let mut picked = [None; N];
        for (key, value) in self.members() {
            let fingerprint = key.node().fingerprint;
            if !text::is_one_of(fingerprint, &names.fingerprints) {
                continue;
            }
            for (slot, (candidate, name)) in picked.iter_mut().zip(names.fingerprints.iter().zip(names.names)) {
                if *candidate == fingerprint && key.says(name) {
                    *slot = Some(value).filter(|value| value.kind() != Kind::Null);
                }
            }
        }
        picked
    }

    /// The member of this name; null is the same as absent.
    #[inline]
    pub fn get(self, name: &str) -> Option<Value<'a>> {
        self.find(text::fingerprint(name.as_bytes()), name)
    }

    fn find(self, fingerprint: u16, name: &str) -> Option<Value<'a>> {
        let members = self.members().filter(|(key, _)| key.node().fingerprint == fingerprint && key.says(name));
        members.last().map(|(_, value)| value).filter(|value| value.kind() != Kind::Null)
    }

    /// The object or array that directly contains it.
    pub fn container(self) -> Option<Value<'a>> {
        let before = self.document.nodes.get(..self.index)?;
        let index = before.iter().rposition(|node| node.next as usize > self.index)?;
        Some(Value::new(self.document, index))
    }
}

/// Names to look for, prepared when the program is compiled: `const { &Keys::new([…]) }`.
#[derive(Clone, Copy, Debug)]
pub struct Keys<const N: usize> {
    pub(super) names: [&'static str; N],
    pub(super) fingerprints: [u16; N],
}

impl<const N: usize> Keys<N> {
    /// Prepares the names.
    pub const fn new(names: [&'static str; N]) -> Keys<N> {
        let mut fingerprints = [0; N];
        let mut at = 0;
        while at < N {
            fingerprints[at] = text::fingerprint(names[at].as_bytes());
            at += 1;
        }
        Keys { names, fingerprints }
    }
}

/// See [`Value::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    document: &'a Document<'a>,
    at: usize,
    end: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Value<'a>, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let key = Value::new(self.document, self.at);
        let value = Value::new(self.document, self.at + 1);
        self.at = value.node().next as usize;
        Some((key, value))
    }
}

/// See [`Value::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    document: &'a Document<'a>,
    at: usize,
    end: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let element = Value::new(self.document, self.at);
        self.at = element.node().next as usize;
        Some(element)
    }
}
