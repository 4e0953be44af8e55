//! The inside of a JSON string: how far plain text goes, what an escape means.

use std::borrow::Cow;

/// What an escape stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Scalar(char),
    /// Half of a surrogate pair, which is no character.
    LoneSurrogate,
}

/// An escape and its length in bytes: 2, 6, or 12 for a surrogate pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Escape {
    pub length: usize,
    pub meaning: Meaning,
}

/// Tells most names apart: their length, their first eight bytes and the last one. Equal names have equal ones.
pub(super) const fn fingerprint(name: &[u8]) -> u16 {
    let mut beginning = 0;
    let mut at = if name.len() < 8 { name.len() } else { 8 };
    while at > 0 {
        at -= 1;
        beginning = beginning << 8 | name[at] as u64;
    }
    let last = if let Some(last) = name.last() { *last } else { 0 };
    mix(beginning, name.len(), last)
}

/// The fingerprint of the name at `start..end` of a text, in which there is more to read behind most names.
#[inline]
pub(super) fn fingerprint_within(bytes: &[u8], start: usize, end: usize) -> u16 {
    let Some(chunk) = bytes.get(start..).and_then(|rest| rest.first_chunk::<8>()) else {
        return fingerprint(bytes.get(start..end).unwrap_or_default());
    };
    let length = end - start;
    let unread = 8 * 8_usize.saturating_sub(length);
    let beginning = if length == 0 { 0 } else { u64::from_le_bytes(*chunk) & (u64::MAX >> unread) };
    let last = if length == 0 { 0 } else { bytes.get(end - 1).copied().unwrap_or(0) };
    mix(beginning, length, last)
}

#[inline]
const fn mix(beginning: u64, length: usize, last: u8) -> u16 {
    let rest = (length as u64) << 8 | last as u64;
    ((beginning ^ rest << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

/// Whether two texts are equal. Names and ids are short: comparing their beginnings and ends, which overlap, costs less than
/// calling a function that is made for long ones.
#[inline]
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() || a.len() > 16 {
        return a == b;
    }
    if let (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) =
        (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>())
    {
        return a_first == b_first && a_last == b_last;
    }
    if let (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) =
        (a.first_chunk::<4>(), b.first_chunk::<4>(), a.last_chunk::<4>(), b.last_chunk::<4>())
    {
        return a_first == b_first && a_last == b_last;
    }
    a.iter().eq(b)
}

/// Compares with all of them, which a processor does at once; stopping at the first would be slower.
#[inline]
pub(super) fn is_one_of<const N: usize>(fingerprint: u16, candidates: &[u16; N]) -> bool {
    candidates.iter().fold(false, |found, candidate| found | (*candidate == fingerprint))
}

const ONES: u64 = u64::MAX / 255;
const HIGH_BITS: u64 = ONES * 0x80;

/// Where the first quote, backslash or control character at or after `at` is, else the end. Eight bytes at a time: strings
/// are most of a payload.
#[inline]
pub(super) fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // With their second bit flipped, a quote (0x22) and the control characters are the bytes below 0x21.
        let flipped = word ^ (ONES * 0x02);
        let quote_or_control = flipped.wrapping_sub(ONES * 0x21) & !flipped;
        let backslash = word ^ (ONES * 0x5c);
        let special = (quote_or_control | (backslash.wrapping_sub(ONES) & !backslash)) & HIGH_BITS;
        // A borrow can only mark bytes behind the first true one.
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len())
}

/// Reads the escape that `bytes` begin with. `None` when it is none.
pub(super) fn read_escape(bytes: &[u8]) -> Option<Escape> {
    let short = |scalar| Some(Escape { length: 2, meaning: Meaning::Scalar(scalar) });
    match bytes.get(1)? {
        b'"' => short('"'),
        b'\\' => short('\\'),
        b'/' => short('/'),
        b'b' => short('\u{8}'),
        b'f' => short('\u{c}'),
        b'n' => short('\n'),
        b'r' => short('\r'),
        b't' => short('\t'),
        b'u' => read_unicode_escape(bytes),
        _ => None,
    }
}

fn read_unicode_escape(bytes: &[u8]) -> Option<Escape> {
    let first = code_unit(bytes)?;
    if let Some(scalar) = char::from_u32(first) {
        return Some(Escape { length: 6, meaning: Meaning::Scalar(scalar) });
    }
    let second = bytes.get(6..).filter(|rest| rest.starts_with(b"\\u")).and_then(code_unit);
    if let (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) = (first, second) {
        let scalar = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00));
        return scalar.map(|scalar| Escape { length: 12, meaning: Meaning::Scalar(scalar) });
    }
    Some(Escape { length: 6, meaning: Meaning::LoneSurrogate })
}

/// The four hexadecimal digits of `\uXXXX`.
fn code_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.get(2..6)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

/// What the inside of a string says. NUL and lone surrogates, which no column can hold, become U+FFFD.
pub(super) fn unescape(inside: &str) -> Cow<'_, str> {
    let mut plain = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        let (before, from_escape) = rest.split_at(at);
        plain.push_str(before);
        let Some(escape) = read_escape(from_escape.as_bytes()) else { break };
        plain.push(match escape.meaning {
            Meaning::Scalar('\0') | Meaning::LoneSurrogate => char::REPLACEMENT_CHARACTER,
            Meaning::Scalar(scalar) => scalar,
        });
        rest = from_escape.get(escape.length..).unwrap_or_default();
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}
