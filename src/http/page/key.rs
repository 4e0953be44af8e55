//! What the rows of lists are ordered by, as text: hexadecimal digits alone, of which every combination is a place in the
//! list, so that its form can be described exactly.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The microseconds of the first and of the last instant that an RFC 3339 text can name.
const INSTANTS: (i64, i64) = (-62_135_596_800_000_000, 253_402_300_799_999_999);

/// Digits of the number that comes first.
const NUMBER_DIGITS: usize = 16;

/// Longest id that stands in a cursor: more than the ledger keeps.
const MAX_TEXT_BYTES: usize = 1024;

/// A place in a list. One that is beyond all rows is taken to the nearest that a row could have.
pub(in crate::http) trait Key: Sized + PartialEq + std::fmt::Debug {
    /// As a regular expression.
    const PATTERN: &'static str;
    fn encode(&self) -> String;
    fn decode(text: &str) -> Option<Self>;
}

/// By time, then by id.
impl Key for (DateTime<Utc>, Uuid) {
    const PATTERN: &'static str = "[0-9a-f]{48}";

    fn encode(&self) -> String {
        format!("{:016x}{}", self.0.timestamp_micros(), self.1.simple())
    }

    fn decode(text: &str) -> Option<Self> {
        let (number, id) = read_number(text)?;
        Some((instant(number)?, read_uuid(id)?))
    }
}

/// By time, then by a text.
impl Key for (DateTime<Utc>, String) {
    const PATTERN: &'static str = "[0-9a-f]{16}(?:0[1-9a-f]|[1-9a-f][0-9a-f]){1,1024}";

    fn encode(&self) -> String {
        format!("{:016x}{}", self.0.timestamp_micros(), hex::encode(&self.1))
    }

    fn decode(text: &str) -> Option<Self> {
        let (number, id) = read_number(text)?;
        let bytes = hex::decode(id).ok().filter(|bytes| (1..=MAX_TEXT_BYTES).contains(&bytes.len()) && !bytes.contains(&0))?;
        Some((instant(number)?, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// By position, then by id.
impl Key for (i32, Uuid) {
    const PATTERN: &'static str = "[0-9a-f]{48}";

    fn encode(&self) -> String {
        format!("{:016x}{}", i64::from(self.0), self.1.simple())
    }

    fn decode(text: &str) -> Option<Self> {
        let (number, id) = read_number(text)?;
        let nearest = number.clamp(i32::MIN.into(), i32::MAX.into());
        Some((i32::try_from(nearest).ok()?, read_uuid(id)?))
    }
}

/// The number, and the digits that follow it.
fn read_number(text: &str) -> Option<(i64, &str)> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (digits, rest) = text.split_at_checked(NUMBER_DIGITS).filter(|_| is_plain)?;
    Some((u64::from_str_radix(digits, 16).ok()?.cast_signed(), rest))
}

fn read_uuid(digits: &str) -> Option<Uuid> {
    if digits.len() == uuid::fmt::Simple::LENGTH { Uuid::try_parse(digits).ok() } else { None }
}

fn instant(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros.clamp(INSTANTS.0, INSTANTS.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returns<K: Key>(key: &K) {
        assert_eq!(K::decode(&key.encode()).as_ref(), Some(key));
    }

    #[test]
    fn every_key_returns_from_its_text() {
        for at in ["2026-03-10T12:00:00.123456Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z"] {
            let at: DateTime<Utc> = at.parse().expect("an instant");
            returns(&(at, Uuid::from_u128(7)));
            returns(&(at, "evt_1 'ü".to_owned()));
        }
        for position in [i32::MIN, -1, 0, 1, i32::MAX] {
            returns(&(position, Uuid::max()));
        }
    }

    #[test]
    fn every_text_of_the_form_is_a_place_and_no_other_text() {
        let id = "0".repeat(32);
        for number in ["7fffffffffffffff", "8000000000000000", "ffffffffffffffff"] {
            assert!(<(DateTime<Utc>, Uuid)>::decode(&format!("{number}{id}")).is_some(), "{number}");
            assert!(<(i32, Uuid)>::decode(&format!("{number}{id}")).is_some(), "{number}");
            assert!(<(DateTime<Utc>, String)>::decode(&format!("{number}ff")).is_some(), "no UTF-8 is a place too");
        }
        let number = "0".repeat(NUMBER_DIGITS);
        let long = format!("{number}{}", "61".repeat(MAX_TEXT_BYTES + 1));
        for wrong in ["", "+", &number, &format!("{number}6"), &format!("{number}00"), &format!("{number}6G"), &long, "ü"] {
            assert_eq!(<(DateTime<Utc>, String)>::decode(wrong), None, "{wrong}");
        }
        for wrong in ["", &number, &format!("{number}{}", &id[1..]), &format!("{number}{id}0"), &format!("+{}{id}", &number[1..])]
        {
            assert_eq!(<(DateTime<Utc>, Uuid)>::decode(wrong), None, "{wrong}");
            assert_eq!(<(i32, Uuid)>::decode(wrong), None, "{wrong}");
        }
    }
}
