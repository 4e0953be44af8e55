//! A caller's JSON that `jsonb` keeps exactly as it is, to the last digit, and what stands where if it does not.

use std::fmt::Write;

use super::{Document, FlawKind, JsonText, Kind, Value};

/// Nesting that is kept.
pub const STORABLE_DEPTH: usize = 32;

/// Size of numbers that are kept: about as large as a double can be, for those who read them.
pub const STORABLE_NUMBER: f64 = 1e308;

/// Digits of a number, and its exponent: `jsonb` writes every digit out.
const NUMBER_BYTES: usize = 400;
const EXPONENT: i32 = 400;

/// Longest name that is told.
const NAME_BYTES: usize = 100;

/// Why a text is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstorable {
    /// From the outermost value: `.creators[3].name`; empty for that value itself.
    pub path: String,
    pub reason: &'static str,
}

impl JsonText {
    /// Keeps a text exactly, or tells why it cannot be.
    pub fn storable(text: &str) -> Result<JsonText, Unstorable> {
        let whole = |reason| Unstorable { path: String::new(), reason };
        let document = Document::parse(text).map_err(|_| whole("is not JSON"))?;
        if document.depth() > STORABLE_DEPTH {
            return Err(whole("is nested too deeply"));
        }
        match document.first_fault() {
            Some((offset, reason)) => Err(Unstorable { path: path_to(document.root(), offset), reason }),
            None => Ok(JsonText::new(text)),
        }
    }

    /// What kind of value it is.
    pub fn kind(&self) -> Option<Kind> {
        Document::parse(self.as_str()).ok().map(|document| document.root().kind())
    }
}

impl Document<'_> {
    fn first_fault(&self) -> Option<(u32, &'static str)> {
        let flaws = self.flaws.iter().map(|flaw| {
            let reason = match flaw.kind {
                FlawKind::Nul => "contains a NUL character",
                FlawKind::LoneSurrogate => "contains half of a surrogate pair, which is no character",
                FlawKind::BeyondNumeric | FlawKind::BeyondDouble => "has too large a number",
            };
            (flaw.start, reason)
        });
        let numbers = self.nodes.iter().filter(|node| node.kind == Kind::Number).filter_map(|node| {
            let text = self.text.get(node.start as usize..node.end as usize)?;
            Some((node.start, check_number(text).err()?))
        });
        flaws.chain(numbers).min_by_key(|(offset, _)| *offset)
    }
}

fn check_number(text: &str) -> Result<(), &'static str> {
    let number = text.parse::<f64>().unwrap_or(f64::INFINITY);
    if number.abs() > STORABLE_NUMBER {
        return Err("has too large a number");
    }
    let exponent = text.split_once(['e', 'E']).map(|(_, exponent)| exponent.parse::<i32>());
    let is_short = exponent.is_none_or(|exponent| exponent.is_ok_and(|exponent| exponent.abs() <= EXPONENT));
    if is_short && text.len() <= NUMBER_BYTES { Ok(()) } else { Err("has a number of too many digits") }
}

/// Where the byte at `offset` stands. A name that is long or odd is not told, nor what is below it.
fn path_to(root: Value<'_>, offset: u32) -> String {
    let offset = offset as usize;
    let (mut path, mut value) = (String::new(), root);
    loop {
        match value.kind() {
            Kind::Object => {
                let Some((key, inner)) = value.members().find(|(_, inner)| offset < inner.range().end) else { return path };
                let name = key.as_str().unwrap_or_default();
                let is_odd = name.len() > NAME_BYTES || name.chars().any(|c| c.is_control() || c == '`' || c == '\u{fffd}');
                if is_odd || key.range().contains(&offset) {
                    return path;
                }
                // Writing to a string cannot fail.
                let _ = write!(path, ".{name}");
                value = inner;
            }
            Kind::Array => {
                let Some((index, inner)) = value.elements().enumerate().find(|(_, inner)| offset < inner.range().end) else {
                    return path;
                };
                let _ = write!(path, "[{index}]");
                value = inner;
            }
            _ => return path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_keeps_exactly_is_kept_as_it_is_written() {
        for text in ["{\"a\": 12345678901234567890123.4500}", "[1e308, -1e308, 5e-324, 1.10]", "\"\\u00e9\\ud83e\\udd80\"", "{}"]
        {
            assert_eq!(JsonText::storable(text).map(|kept| kept.as_str().to_owned()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_it_cannot_keep_is_told_with_its_place() {
        let deep = format!("{}1{}", "[".repeat(33), "]".repeat(33));
        let long = format!("[{}]", "1".repeat(401));
        let cases: [(&str, &str, &str); 13] = [
            ("{\"a\": [1, {\"b\": \"x\\u0000\"}]}", ".a[1].b", "NUL"),
            ("{\"a\": {\"b\\u0000\": 1}}", ".a", "NUL"),
            ("{\"a`\": {\"b\": \"\\u0000\"}}", "", "NUL"),
            ("[\"\\ud800\"]", "[0]", "surrogate"),
            ("{\"a\": 1e309}", ".a", "too large"),
            ("[0, 1e999999999999]", "[1]", "too large"),
            ("[1.1e308]", "[0]", "too large"),
            ("[1e-500]", "[0]", "digits"),
            ("[0e-16000]", "[0]", "digits"),
            ("[0e-99999999999]", "[0]", "too large"),
            (&long, "[0]", "too large"),
            (&deep, "", "deeply"),
            ("{", "", "not JSON"),
        ];
        for (text, path, reason) in cases {
            let fault = JsonText::storable(text).expect_err(text);
            assert_eq!(fault.path, path, "{text}");
            assert!(fault.reason.contains(reason), "{text}: {}", fault.reason);
        }
    }
}
