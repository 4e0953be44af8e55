//! The one pass: text to index. An explicit stack, so that nesting costs memory in proportion to the text and no more.

use thiserror::Error;

use super::text::{self, fingerprint, unescape};
use super::{Document, Flaw, FlawKind, Kind, Node};

/// Where the text stops being JSON. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not JSON at byte {offset}")]
pub struct SyntaxError {
    pub offset: usize,
}

pub(super) fn parse(text: &str) -> Result<Document<'_>, SyntaxError> {
    if u32::try_from(text.len()).is_err() {
        return Err(SyntaxError { offset: 0 });
    }
    // A provider's event has one value or key for every eight to twelve bytes.
    let nodes = Vec::with_capacity(text.len() / 8 + 8);
    let mut parser =
        Parser { text, bytes: text.as_bytes(), at: 0, nodes, open: Vec::with_capacity(16), flaws: Vec::new(), depth: 0 };
    parser.document()?;
    Ok(Document { text, nodes: parser.nodes, flaws: parser.flaws, depth: parser.depth })
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// The arrays and objects that are not closed yet.
    open: Vec<u32>,
    flaws: Vec<Flaw>,
    depth: usize,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), SyntaxError> {
        loop {
            let opened = self.value()?;
            if !opened && !self.after_value()? {
                break;
            }
        }
        self.skip_white_space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fail() }
    }

    fn fail<T>(&self) -> Result<T, SyntaxError> {
        Err(SyntaxError { offset: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn push(&mut self, start: usize, kind: Kind, escaped: bool, fingerprint: u16) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { start: start as u32, end: self.at as u32, next, kind, escaped, fingerprint });
    }

    /// Reads a scalar, an empty container, or the opening of a container with its first key: then a value has to follow
    /// and the answer is true.
    fn value(&mut self) -> Result<bool, SyntaxError> {
        self.skip_white_space();
        match self.peek() {
            Some(b'"') => {
                let start = self.at;
                let escaped = self.string()?;
                self.push(start, Kind::String, escaped, 0);
            }
            Some(b'{') => return self.open(Kind::Object, b'}'),
            Some(b'[') => return self.open(Kind::Array, b']'),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true", Kind::Bool)?,
            Some(b'f') => self.word(b"false", Kind::Bool)?,
            Some(b'n') => self.word(b"null", Kind::Null)?,
            _ => return self.fail(),
        }
        Ok(false)
    }

    fn open(&mut self, kind: Kind, closing: u8) -> Result<bool, SyntaxError> {
        let start = self.at;
        self.at += 1;
        self.depth = self.depth.max(self.open.len() + 1);
        self.skip_white_space();
        if self.peek() == Some(closing) {
            self.at += 1;
            self.push(start, kind, false, 0);
            return Ok(false);
        }
        self.open.push(self.nodes.len() as u32);
        self.push(start, kind, false, 0);
        if kind == Kind::Object {
            self.key()?;
        }
        Ok(true)
    }

    /// Reads what stands behind a value: closings, then a comma. False when the outermost value is complete.
    fn after_value(&mut self) -> Result<bool, SyntaxError> {
        while let Some(&top) = self.open.last() {
            self.skip_white_space();
            let kind = self.nodes.get(top as usize).map(|node| node.kind);
            match (self.peek(), kind) {
                (Some(b','), Some(Kind::Object)) => {
                    self.at += 1;
                    self.skip_white_space();
                    self.key()?;
                    return Ok(true);
                }
                (Some(b','), _) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(b'}'), Some(Kind::Object)) | (Some(b']'), Some(Kind::Array)) => self.close(top),
                _ => return self.fail(),
            }
        }
        Ok(false)
    }

    fn close(&mut self, top: u32) {
        self.at += 1;
        self.open.pop();
        let next = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(top as usize) {
            node.end = self.at as u32;
            node.next = next;
        }
    }

    fn key(&mut self) -> Result<(), SyntaxError> {
        if self.peek() != Some(b'"') {
            return self.fail();
        }
        let start = self.at;
        let escaped = self.string()?;
        let name = start + 1..self.at - 1;
        let fingerprint = if escaped {
            fingerprint(unescape(self.text.get(name).unwrap_or_default()).as_bytes())
        } else {
            fingerprint(self.bytes.get(name).unwrap_or_default())
        };
        self.push(start, Kind::Key, escaped, fingerprint);
        self.skip_white_space();
        if self.peek() != Some(b':') {
            return self.fail();
        }
        self.at += 1;
        Ok(())
    }

    /// Skips a string and tells whether it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, SyntaxError> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += text::plain_length(self.bytes.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.fail(),
            }
        }
        self.at += 1;
        Ok(escaped)
    }

    #[cold]
    fn escape(&mut self) -> Result<(), SyntaxError> {
        let Some(escape) = text::read_escape(self.bytes.get(self.at..).unwrap_or_default()) else { return self.fail() };
        let start = self.at;
        self.at += escape.length;
        match escape.meaning {
            text::Meaning::Scalar('\0') => self.flaw(start, FlawKind::Nul),
            text::Meaning::Scalar(_) => {}
            text::Meaning::LoneSurrogate => self.flaw(start, FlawKind::LoneSurrogate),
        }
        Ok(())
    }

    fn flaw(&mut self, start: usize, kind: FlawKind) {
        self.flaws.push(Flaw { start: start as u32, end: self.at as u32, kind });
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return self.fail();
        }
        let mut fraction = 0;
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits();
            if fraction == 0 {
                return self.fail();
            }
        }
        let mut exponent = 0;
        if let Some(b'e' | b'E') = self.peek() {
            exponent = self.exponent()?;
        }
        self.push(start, Kind::Number, false, 0);
        if self.at - start > 100 || exponent != 0 {
            self.weigh(start, whole, fraction, exponent);
        }
        Ok(())
    }

    /// The exponent, held within what decides anything.
    fn exponent(&mut self) -> Result<i64, SyntaxError> {
        self.at += 1;
        let negative = self.peek() == Some(b'-');
        if let Some(b'+' | b'-') = self.peek() {
            self.at += 1;
        }
        let start = self.at;
        if self.digits() == 0 {
            return self.fail();
        }
        let digits = self.bytes.get(start..self.at).unwrap_or_default();
        let size = digits.iter().fold(0_i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1_000_000_000));
        Ok(if negative { -size } else { size })
    }

    /// Notes a number that is too large. Postgres: "up to 131072 digits before the decimal point; up to 16383 digits after
    /// the decimal point" (Numeric Types).
    fn weigh(&mut self, start: usize, whole: usize, fraction: usize, exponent: i64) {
        if whole as i64 + exponent > 131_072 || fraction as i64 - exponent > 16_383 {
            return self.flaw(start, FlawKind::BeyondNumeric);
        }
        let number = self.text.get(start..self.at).and_then(|text| text.parse::<f64>().ok());
        if !number.is_some_and(f64::is_finite) {
            self.flaw(start, FlawKind::BeyondDouble);
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), SyntaxError> {
        let start = self.at;
        if !self.bytes.get(start..).unwrap_or_default().starts_with(word) {
            return self.fail();
        }
        self.at += word.len();
        self.push(start, kind, false, 0);
        Ok(())
    }
}
