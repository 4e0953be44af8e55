//! The one pass: text to index. The containers that are open are linked through the index itself, so that nesting costs no
//! more memory than width.

use std::ops::Range;

use thiserror::Error;

use super::text::{self, fingerprint, unescape};
use super::{Document, Flaw, FlawKind, Kind, Node};

/// Where the text stops being JSON. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not JSON at byte {offset}")]
pub struct SyntaxError {
    pub offset: usize,
}

/// The container of the outermost value.
const NONE: u32 = u32::MAX;

pub(super) fn parse(text: &str) -> Result<Document<'_>, SyntaxError> {
    if u32::try_from(text.len()).is_err() {
        return Err(SyntaxError { offset: 0 });
    }
    // A provider's event has one value or key for every eight to twelve bytes.
    let nodes = Vec::with_capacity(text.len() / 8 + 8);
    let bytes = text.as_bytes();
    let mut parser = Parser { text, nodes, flaws: Vec::new(), top: NONE, in_object: false, level: 0, depth: 0 };
    parser.document(bytes)?;
    Ok(Document { text, nodes: parser.nodes, flaws: parser.flaws, depth: parser.depth })
}

struct Parser<'a> {
    text: &'a str,
    nodes: Vec<Node>,
    flaws: Vec<Flaw>,
    /// The innermost container that is not closed yet. Until it is, its `next` is the container around it.
    top: u32,
    in_object: bool,
    level: usize,
    depth: usize,
}

/// The text and the positions in it are passed and returned, so that they stay in registers.
impl Parser<'_> {
    fn document(&mut self, bytes: &[u8]) -> Result<(), SyntaxError> {
        let mut at = 0;
        'value: loop {
            at = skip_white_space(bytes, at);
            if self.in_object {
                at = skip_white_space(bytes, self.key(bytes, at)?);
            }
            match byte(bytes, at) {
                b'"' => {
                    let (end, escaped) = self.string(bytes, at)?;
                    self.push(at, end, Kind::String, escaped, 0);
                    at = end;
                }
                opening @ (b'{' | b'[') => {
                    let (next, is_empty) = self.open(bytes, at, opening == b'{');
                    at = next;
                    if !is_empty {
                        continue 'value;
                    }
                }
                b'-' | b'0'..=b'9' => at = self.number(bytes, at)?,
                b't' => at = self.word(bytes, at, b"true", Kind::Bool)?,
                b'f' => at = self.word(bytes, at, b"false", Kind::Bool)?,
                b'n' => at = self.word(bytes, at, b"null", Kind::Null)?,
                _ => return fail(at),
            }
            loop {
                at = skip_white_space(bytes, at);
                if self.top == NONE {
                    return if at == bytes.len() { Ok(()) } else { fail(at) };
                }
                match (byte(bytes, at), self.in_object) {
                    (b',', _) => {
                        at += 1;
                        continue 'value;
                    }
                    (b'}', true) | (b']', false) => {
                        at += 1;
                        self.close(at);
                    }
                    _ => return fail(at),
                }
            }
        }
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize, kind: Kind, escaped: bool, fingerprint: u16) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { start: start as u32, end: end as u32, next, kind, escaped, fingerprint });
    }

    /// Reads an empty container, or the opening of one: then a value has to follow, behind a key if it is an object.
    fn open(&mut self, bytes: &[u8], start: usize, is_object: bool) -> (usize, bool) {
        let (kind, closing) = if is_object { (Kind::Object, b'}') } else { (Kind::Array, b']') };
        let at = skip_white_space(bytes, start + 1);
        self.depth = self.depth.max(self.level + 1);
        self.push(start, at + 1, kind, false, 0);
        if byte(bytes, at) == closing {
            return (at + 1, true);
        }
        let index = self.nodes.len() - 1;
        if let Some(node) = self.nodes.get_mut(index) {
            node.next = self.top;
        }
        self.top = index as u32;
        self.in_object = is_object;
        self.level += 1;
        (at, false)
    }

    /// Closes the innermost container.
    fn close(&mut self, end: usize) {
        let next = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(self.top as usize) {
            self.top = node.next;
            node.end = end as u32;
            node.next = next;
        }
        self.in_object = self.nodes.get(self.top as usize).is_some_and(|node| node.kind == Kind::Object);
        self.level -= 1;
    }

    /// Reads a key and its colon.
    #[inline]
    fn key(&mut self, bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        if byte(bytes, start) != b'"' {
            return fail(start);
        }
        let (end, escaped) = self.string(bytes, start)?;
        let fingerprint = if escaped {
            fingerprint(unescape(self.text.get(start + 1..end - 1).unwrap_or_default()).as_bytes())
        } else {
            text::fingerprint_within(bytes, start + 1, end - 1)
        };
        self.push(start, end, Kind::Key, escaped, fingerprint);
        let colon = skip_white_space(bytes, end);
        if byte(bytes, colon) == b':' { Ok(colon + 1) } else { fail(colon) }
    }

    /// Skips the string that begins there. Returns where it ends and whether it has escapes.
    #[inline]
    fn string(&mut self, bytes: &[u8], start: usize) -> Result<(usize, bool), SyntaxError> {
        let at = text::skip_plain(bytes, start + 1);
        if byte(bytes, at) == b'"' { Ok((at + 1, false)) } else { self.escaped_string(bytes, at) }
    }

    #[cold]
    fn escaped_string(&mut self, bytes: &[u8], mut at: usize) -> Result<(usize, bool), SyntaxError> {
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok((at + 1, true)),
                Some(b'\\') => at = text::skip_plain(bytes, self.escape(bytes, at)?),
                _ => return fail(at),
            }
        }
    }

    fn escape(&mut self, bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        let Some(escape) = text::read_escape(bytes.get(start..).unwrap_or_default()) else { return fail(start) };
        let end = start + escape.length;
        match escape.meaning {
            text::Meaning::Scalar('\0') => self.flaw(start, end, FlawKind::Nul),
            text::Meaning::Scalar(_) => {}
            text::Meaning::LoneSurrogate => self.flaw(start, end, FlawKind::LoneSurrogate),
        }
        Ok(end)
    }

    fn flaw(&mut self, start: usize, end: usize, kind: FlawKind) {
        self.flaws.push(Flaw { start: start as u32, end: end as u32, kind });
    }

    #[inline]
    fn number(&mut self, bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        let first = start + usize::from(byte(bytes, start) == b'-');
        let point = digits(bytes, first);
        if point == first || (byte(bytes, first) == b'0' && point > first + 1) {
            return fail(point);
        }
        let next = byte(bytes, point);
        let end = if next == b'.' || next | 0x20 == b'e' { self.fraction(bytes, start, first, point)? } else { point };
        if end - start > 100 && end == point {
            self.weigh(start..end, point - first, 0, 0);
        }
        self.push(start, end, Kind::Number, false, 0);
        Ok(end)
    }

    /// Reads what stands behind the whole digits of a number.
    fn fraction(&mut self, bytes: &[u8], start: usize, first: usize, point: usize) -> Result<usize, SyntaxError> {
        let mut at = point;
        let mut fraction = 0;
        if byte(bytes, at) == b'.' {
            at = digits(bytes, point + 1);
            fraction = at - point - 1;
            if fraction == 0 {
                return fail(at);
            }
        }
        let mut exponent = 0;
        if byte(bytes, at) | 0x20 == b'e' {
            (at, exponent) = self.exponent(bytes, at + 1)?;
        }
        if at - start > 100 || exponent != 0 {
            self.weigh(start..at, point - first, fraction, exponent);
        }
        Ok(at)
    }

    /// The exponent, held within what decides anything.
    fn exponent(&self, bytes: &[u8], at: usize) -> Result<(usize, i64), SyntaxError> {
        let sign = byte(bytes, at);
        let start = at + usize::from(matches!(sign, b'+' | b'-'));
        let end = digits(bytes, start);
        if end == start {
            return fail(end);
        }
        let digits = bytes.get(start..end).unwrap_or_default();
        let size = digits.iter().fold(0_i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1_000_000_000));
        Ok((end, if sign == b'-' { -size } else { size }))
    }

    /// Notes a number that is too large. Postgres: "up to 131072 digits before the decimal point; up to 16383 digits after
    /// the decimal point" (Numeric Types).
    fn weigh(&mut self, range: Range<usize>, whole: usize, fraction: usize, exponent: i64) {
        let (start, end) = (range.start, range.end);
        if whole as i64 + exponent > 131_072 || fraction as i64 - exponent > 16_383 {
            return self.flaw(start, end, FlawKind::BeyondNumeric);
        }
        let number = self.text.get(range).and_then(|text| text.parse::<f64>().ok());
        if !number.is_some_and(f64::is_finite) {
            self.flaw(start, end, FlawKind::BeyondDouble);
        }
    }

    #[inline]
    fn word(&mut self, bytes: &[u8], start: usize, word: &[u8], kind: Kind) -> Result<usize, SyntaxError> {
        let end = start + word.len();
        if bytes.get(start..end) != Some(word) {
            return fail(start);
        }
        self.push(start, end, kind, false, 0);
        Ok(end)
    }
}

fn fail<T>(offset: usize) -> Result<T, SyntaxError> {
    Err(SyntaxError { offset })
}

/// The byte there; behind the end NUL, which begins nothing.
#[inline]
fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

#[inline]
fn skip_white_space(bytes: &[u8], at: usize) -> usize {
    // Over the wire there is none.
    if byte(bytes, at) > b' ' { at } else { skip_all_white_space(bytes, at) }
}

fn skip_all_white_space(bytes: &[u8], mut at: usize) -> usize {
    while let b' ' | b'\n' | b'\r' | b'\t' = byte(bytes, at) {
        at += 1;
    }
    at
}

/// Where the digits that begin there end.
#[inline]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while byte(bytes, at).is_ascii_digit() {
        at += 1;
    }
    at
}
