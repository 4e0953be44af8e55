//! Comparing snapshots leaf by leaf: a leaf is a scalar, an array as a whole, or an empty object; absent is null, and a number
//! is its value, whatever its spelling.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::domain::json_text::{Kind, Value};

/// Whether the object has the value of every leaf of `previous`.
pub(super) fn holds(object: Option<Value<'_>>, previous: Value<'_>) -> bool {
    last_of_each_name(previous).all(|(name, was)| {
        let is = object.and_then(|object| object.get(&name));
        if has_members(was) { holds(is, was) } else { same(is, Some(was)) }
    })
}

/// Whether `object`, with the leaves of `previous` put back, is `expected`.
pub(super) fn same_with<'a>(object: Option<Value<'a>>, previous: Value<'a>, expected: Option<Value<'a>>) -> bool {
    let put_back = last_of_each_name(previous).all(|(name, was)| {
        let expected = expected.and_then(|expected| expected.get(&name));
        match object.and_then(|object| object.get(&name)).filter(|is| is.is_object()) {
            Some(is) if has_members(was) => same_with(Some(is), was, expected),
            _ => same(expected, Some(was)),
        }
    });
    put_back && same_members(object, expected, |name| previous.members().all(|(key, _)| !key.says(name)))
}

/// What is no leaf: its members are.
fn has_members(value: Value<'_>) -> bool {
    value.members().next().is_some()
}

/// The members by name; of several with one name the last.
fn last_of_each_name(object: Value<'_>) -> impl Iterator<Item = (Cow<'_, str>, Value<'_>)> {
    let mut members: Vec<_> = object.members().filter_map(|(key, value)| Some((key.as_str()?, value))).collect();
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    members.reverse();
    members.dedup_by(|(later, _), (kept, _)| later == kept);
    members.into_iter()
}

/// Equality in which absent is null and a number is its value, whatever its spelling.
pub(super) fn same<'a>(a: Option<Value<'a>>, b: Option<Value<'a>>) -> bool {
    let (Some(a), Some(b)) = (present(a), present(b)) else { return present(a).is_none() && present(b).is_none() };
    if a.raw() == b.raw() {
        return true;
    }
    match (a.kind(), b.kind()) {
        (Kind::Object, Kind::Object) => same_members(Some(a), Some(b), |_| true),
        (Kind::Array, Kind::Array) => {
            let (mut a, mut b) = (a.elements(), b.elements());
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if same(Some(a), Some(b)) => {}
                    _ => return false,
                }
            }
        }
        (Kind::String, Kind::String) => a.as_str() == b.as_str(),
        (Kind::Number, Kind::Number) => same_number(a.raw(), b.raw()),
        _ => false,
    }
}

/// Whether two objects have the same members among those that are asked for.
fn same_members<'a>(a: Option<Value<'a>>, b: Option<Value<'a>>, asked: impl Fn(&str) -> bool) -> bool {
    same_in_step(a, b, &asked).unwrap_or_else(|| by_name(a, &asked) == by_name(b, &asked))
}

/// The answer for objects whose members stand in the same order, which those of snapshots from one source do; else `None`.
fn same_in_step<'a>(a: Option<Value<'a>>, b: Option<Value<'a>>, asked: impl Fn(&str) -> bool) -> Option<bool> {
    let members = |object: Option<Value<'a>>| object.into_iter().flat_map(Value::members);
    let (mut of_a, mut of_b) = (members(a), members(b));
    loop {
        let (name, is, was) = match (of_a.next(), of_b.next()) {
            (None, None) => return Some(true),
            (Some((name, is)), Some((other, was))) if name.raw() == other.raw() => (name, is, was),
            _ => return None,
        };
        if same(Some(is), Some(was)) {
            continue;
        }
        let name = name.as_str()?;
        if asked(&name) {
            // Of several with one name the last decides.
            let last = |object: Option<Value<'a>>| object.and_then(|object| object.get(&name));
            return if same(last(a), last(b)) { None } else { Some(false) };
        }
    }
}

/// A value as [`same`] compares it.
struct Comparable<'a>(Value<'a>);

impl PartialEq for Comparable<'_> {
    fn eq(&self, other: &Self) -> bool {
        same(Some(self.0), Some(other.0))
    }
}

/// The members that are asked for and not null, by name; of several with one name the last.
fn by_name<'a>(object: Option<Value<'a>>, asked: impl Fn(&str) -> bool) -> BTreeMap<Cow<'a, str>, Comparable<'a>> {
    let members = object.into_iter().flat_map(Value::members);
    let named = members.filter_map(|(name, value)| Some((name.as_str()?, Comparable(value)))).filter(|(name, _)| asked(name));
    let mut by_name: BTreeMap<_, _> = named.collect();
    by_name.retain(|_, Comparable(value)| value.kind() != Kind::Null);
    by_name
}

fn present(value: Option<Value<'_>>) -> Option<Value<'_>> {
    value.filter(|value| value.kind() != Kind::Null)
}

/// Whole numbers are compared exactly, others as doubles: jsonb spells `1e3` as `1000`.
fn same_number(a: &str, b: &str) -> bool {
    a == b
        || match (a.parse::<i64>(), b.parse::<i64>()) {
            (Ok(a), Ok(b)) => a == b,
            _ => matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json_text::Document;

    #[test]
    fn leaves_are_put_back_by_their_names() {
        // What it is, what it was before (by `previous_attributes`), what it would then have been.
        let cases = [
            (r#"{"a":2,"b":1}"#, r#"{"a":1}"#, r#"{"a":1,"b":1}"#, true),
            (r#"{"a":2,"b":1}"#, r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (r#"{"a":2}"#, r#"{"a":null}"#, "{}", true),
            (r#"{"a":2}"#, r#"{"a":7,"a":1}"#, r#"{"a":1}"#, true),
            (r#"{"a":2}"#, r#"{"a":1,"a":7}"#, r#"{"a":1}"#, false),
            (r#"{"m":{"x":2,"y":3}}"#, r#"{"m":{"x":1}}"#, r#"{"m":{"x":1,"y":3}}"#, true),
            (r#"{"m":{"x":2,"y":3}}"#, r#"{"m":{"x":1}}"#, r#"{"m":{"x":1,"y":4}}"#, false),
            (r#"{"m":{"x":2}}"#, r#"{"m":{}}"#, r#"{"m":{}}"#, true),
            (r#"{"l":[2]}"#, r#"{"l":[1,2]}"#, r#"{"l":[1,2]}"#, true),
            (r#"{"l":[2]}"#, r#"{"\u006c":[1]}"#, r#"{"l":[1]}"#, true),
        ];
        for (object, previous, expected, same_as_expected) in cases {
            let [object, previous, expected] = [object, previous, expected].map(|text| Document::parse(text).unwrap());
            let before = same_with(Some(object.root()), previous.root(), Some(expected.root()));
            assert_eq!(before, same_as_expected, "{object:?} {previous:?} {expected:?}");
            assert!(
                !holds(Some(object.root()), previous.root())
                    && (!same_as_expected || holds(Some(expected.root()), previous.root()))
            );
        }
    }

    #[test]
    fn objects_are_compared_by_what_they_say() {
        let cases = [
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, true),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1.0}"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, true),
            (r#"{"a":1,"b":{"c":1}}"#, r#"{"a":1,"b":{"c":1,"d":2}}"#, false),
            (r#"{"a":1,"b":{"c":1}}"#, r#"{"b":{"d":null,"c":1e0},"a":1}"#, true),
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, false),
            (r#"{"a":1,"a":2}"#, r#"{"a":3,"a":2}"#, true),
            (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":3}"#, false),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false),
            (r#"{"\u0061":"x"}"#, r#"{"a":"\u0078"}"#, true),
            ("{}", r#"{"a":1}"#, false),
        ];
        for (a, b, expected) in cases {
            let (left, right) = (Document::parse(a).unwrap(), Document::parse(b).unwrap());
            assert_eq!(same(Some(left.root()), Some(right.root())), expected, "{a} {b}");
            assert_eq!(same(Some(right.root()), Some(left.root())), expected, "{b} {a}");
        }
    }
}
