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

/// Tells most names apart: length, first, middle and last byte. Equal names have equal ones.
#[inline]
pub(super) fn fingerprint(name: &[u8]) -> u16 {
    let (Some(first), Some(middle), Some(last)) = (name.first(), name.get(name.len() / 2), name.last()) else { return 0 };
    let mix = first.wrapping_mul(31) ^ middle.wrapping_mul(7) ^ last;
    u16::from_le_bytes([mix, name.len() as u8])
}

/// Compares with all of them, which a processor does at once; stopping at the first would be slower.
#[inline]
pub(super) fn is_one_of<const N: usize>(fingerprint: u16, candidates: &[u16; N]) -> bool {
    candidates.iter().fold(false, |found, candidate| found | (*candidate == fingerprint))
}

const ONES: u64 = u64::MAX / 255;
const HIGH_BITS: u64 = ONES * 0x80;

/// The bytes before the first quote, backslash or control character. Eight at a time: strings are most of a payload.
#[inline]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES) & !(word ^ (ONES * 0x22));
        let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES) & !(word ^ (ONES * 0x5c));
        let special = (control | quote | backslash) & HIGH_BITS;
        // A borrow can only mark bytes behind the first true one.
        if special != 0 {
            return length + special.trailing_zeros() as usize / 8;
        }
        length += 8;
        rest = tail;
    }
    length + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len())
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
