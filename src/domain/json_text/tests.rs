//! serde_json as the oracle: the same texts are JSON, and they say the same.

use proptest::prelude::*;
use serde_json::Value as Tree;

use super::{Document, Edits, Keys, Kind, Value};

fn tree(value: Value<'_>) -> Tree {
    match value.kind() {
        Kind::Null => Tree::Null,
        Kind::Bool => Tree::Bool(value.as_bool().unwrap()),
        Kind::Number => serde_json::from_str(value.raw()).unwrap(),
        Kind::String | Kind::Key => Tree::String(value.as_str().unwrap().into_owned()),
        Kind::Array => value.elements().map(tree).collect(),
        Kind::Object => {
            Tree::Object(value.members().map(|(key, value)| (key.as_str().unwrap().into_owned(), tree(value))).collect())
        }
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        any::<i32>().prop_map(|eighths| Tree::from(f64::from(eighths) / 8.0)),
        "\\PC{0,12}".prop_map(Tree::from),
        "[\\x00-\\x7f\"\\\\é🦀]{0,20}".prop_map(Tree::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Tree::from),
            proptest::collection::btree_map("[a-z\"\\\\\\n]{0,9}", inner, 0..6)
                .prop_map(|members| Tree::Object(members.into_iter().collect())),
        ]
    })
}

/// NUL, which the accessors replace.
fn without_nul(tree: Tree) -> Tree {
    serde_json::from_str(&tree.to_string().replace("\\u0000", "\\ufffd")).unwrap()
}

proptest! {
    #[test]
    fn says_what_serde_json_says(tree_in in any_tree(), pretty in any::<bool>()) {
        let tree_in = without_nul(tree_in);
        let text = if pretty { serde_json::to_string_pretty(&tree_in).unwrap() } else { tree_in.to_string() };
        let document = Document::parse(&text).unwrap();
        prop_assert_eq!(tree(document.root()), tree_in);
        prop_assert_eq!(document.rewrite(&Edits::default()), (std::borrow::Cow::Borrowed(text.as_str()), true));
    }

    #[test]
    fn accepts_what_serde_json_accepts(tree_in in any_tree(), at in any::<prop::sample::Index>(), byte in "[\\x00-\\x7f]", cut in any::<bool>()) {
        let mut text = tree_in.to_string();
        let boundary = (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        if cut { text.truncate(boundary) } else { text.insert_str(boundary, &byte) }
        let accepted = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(Document::parse(&text).is_ok(), accepted, "{}", text);
    }

    #[test]
    fn short_texts_of_json_characters(text in "[\\[\\]{}:,\"\\\\u0d8e+.1tfrn -]{0,12}") {
        let accepted = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(Document::parse(&text).is_ok(), accepted, "{}", text);
    }
}

#[test]
fn numbers() {
    for text in ["0", "-0", "1", "-1.5", "1e5", "1E+5", "1.25e-5", "10"] {
        assert!(Document::parse(text).is_ok(), "{text}");
    }
    for text in ["", "-", "01", "-01", "1.", ".5", "1e", "1e+", "+1", "0x1", "1_0", "NaN", "Infinity", "1.e5"] {
        assert!(Document::parse(text).is_err(), "{text}");
    }
    let whole = |text: &str| Document::parse(text).unwrap().root().as_i64();
    assert_eq!(whole("1700000000"), Some(1_700_000_000));
    assert_eq!(whole("1.7e9"), Some(1_700_000_000));
    assert_eq!(whole("1.9"), Some(1));
    for text in ["1e400000", "1e300", "99999999999999999999", "\"1\"", "null", "true", "[]"] {
        assert_eq!(whole(text), None, "{text}");
    }
}

#[test]
fn what_jsonb_refuses() {
    let refused = [
        "1e131072",
        "1e400000",
        "-1e131072",
        "12e131071",
        "1e-16384",
        "1.5e-16383",
        "1e99999999999999999999",
        "\"\\ud83e\"",
        "\"\\udd80\"",
        "\"\\ud83e\\ud83e\\udd80\"",
        "{\"\\ud83e\":1}",
        "\"\\ud83ex\"",
        "\"\\ud83e\\n\"",
    ];
    for text in refused {
        let document = Document::parse(text).unwrap();
        let (kept, fits) = document.rewrite(&Edits::default());
        assert!(!fits, "{text}");
        assert_eq!(kept, text, "kept as it came");
        let mended = document.rewrite_value(document.root(), &Edits::default()).into_owned();
        let again = Document::parse(&mended).unwrap();
        assert!(again.rewrite(&Edits::default()).1, "{mended}");
        assert!(serde_json::from_str::<Tree>(&mended).is_ok(), "{mended}");
    }
    let fitting =
        ["1e131071", "12e131070", "1e-16383", "1e400", "\"\\ud83e\\udd80\"", "\"\\\\u0000\"", "\"\\\\ud83e\"", "1.5e-10"];
    for text in fitting {
        let document = Document::parse(text).unwrap();
        assert_eq!(document.rewrite(&Edits::default()), (text.into(), true));
    }
}

#[test]
fn numbers_that_only_numeric_holds_are_null_for_other_readers() {
    let document = Document::parse("[1e400, 1e300]").unwrap();
    assert_eq!(document.rewrite_value(document.root(), &Edits::default()), "[null, 1e300]");
}

#[test]
fn nul_becomes_the_replacement_character() {
    let text = r#"{"a\u0000": "\u0000 \\u0000 \\\u0000"}"#;
    let document = Document::parse(text).unwrap();
    let (kept, fits) = document.rewrite(&Edits::default());
    assert!(fits);
    assert_eq!(kept, r#"{"a\ufffd": "\ufffd \\u0000 \\\ufffd"}"#);
    let (key, value) = document.root().members().next().unwrap();
    assert_eq!(key.as_str().unwrap(), "a\u{fffd}");
    assert_eq!(value.as_str().unwrap(), "\u{fffd} \\u0000 \\\u{fffd}");
}

#[test]
fn the_last_of_several_members_wins_and_null_is_absent() {
    let document = Document::parse(r#"{"a":1,"b":2,"a":3,"b":null,"\u0061":4}"#).unwrap();
    let [a, b, c] = document.root().pick(const { &Keys::new(["a", "b", "c"]) });
    assert_eq!(a.unwrap().as_i64(), Some(4));
    assert!(b.is_none() && c.is_none());
}

#[test]
fn nesting_is_counted_and_costs_no_stack() {
    let depth = |text: &str| Document::parse(text).unwrap().depth();
    assert_eq!((depth("1"), depth("[]"), depth("{}"), depth("[{}]"), depth("[[],[[1]]]")), (0, 1, 1, 2, 3));
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(depth(&deep), 100_000);
    assert!(!Document::parse(&deep).unwrap().rewrite(&Edits::default()).1);
    assert!(Document::parse(&deep[1..]).is_err());
    assert!(Document::parse(&"{\"a\":".repeat(100_000)).is_err());
    let fits = |depth: usize| Document::parse(&("[".repeat(depth) + &"]".repeat(depth))).unwrap().rewrite(&Edits::default()).1;
    assert!(fits(128) && !fits(129));
}

#[test]
fn dropping_members_leaves_json() {
    let cases = [
        (r#"{"x":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":1,"x":2}"#, r#"{"a":1}"#),
        (r#"{"a":1, "x":2 ,"b":3}"#, r#"{"a":1, "b":3}"#),
        (r#"{ "x":1 }"#, "{ }"),
        (r#"{"x":1,"x":{"x":[1]}}"#, "{}"),
        (r#"{"a":1,"x":2,"x":3}"#, r#"{"a":1}"#),
        (r#"{"x":1,"a":{"x":2},"x":3}"#, r#"{"a":{"x":2}}"#),
        (r#"{"\u0078":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":1}"#, r#"{"a":1}"#),
    ];
    for (text, expected) in cases {
        let document = Document::parse(text).unwrap();
        let mut edits = Edits::default();
        edits.drop_members(document.root(), |key| key.says("x"));
        assert_eq!(document.rewrite(&edits), (expected.into(), true), "{text}");
    }
}

#[test]
fn a_flaw_inside_a_redaction_is_gone() {
    let document = Document::parse(r#"{"a":{"b":"\ud800 \u0000"},"c":1e400000}"#).unwrap();
    let [a, c] = document.root().pick(const { &Keys::new(["a", "c"]) });
    let mut edits = Edits::default();
    edits.replace(a.unwrap().get("b").unwrap(), "2");
    assert_eq!(document.rewrite(&edits), (r#"{"a":{"b":2},"c":1e400000}"#.into(), false));
    edits.replace(a.unwrap(), "1");
    edits.replace(c.unwrap(), "3");
    assert_eq!(document.rewrite(&edits), (r#"{"a":1,"c":3}"#.into(), true));
}

#[test]
fn members_are_found_at_any_depth_and_know_their_container() {
    let document = Document::parse(r#"[{"x":1,"y":{"x":{"x":2}}},"x",{"\u0078":3}]"#).unwrap();
    let found: Vec<&str> = document.find_all(const { &Keys::new(["x", "nothing"]) }).map(|(_, value)| value.raw()).collect();
    assert_eq!(found, ["1", r#"{"x":2}"#, "2", "3"]);
    let containers: Vec<&str> =
        document.find_all(const { &Keys::new(["x"]) }).map(|(_, value)| value.container().unwrap().raw()).collect();
    assert_eq!(containers[1..], [r#"{"x":{"x":2}}"#, r#"{"x":2}"#, r#"{"\u0078":3}"#]);
    assert!(document.root().container().is_none());
}

#[test]
fn times() {
    let seconds = |text: &str| Document::parse(text).unwrap().root().as_seconds().map(|time| time.timestamp());
    assert_eq!(seconds("0"), Some(0));
    assert_eq!(seconds("1700000000.5"), Some(1_700_000_000));
    for text in ["99999999999999", "-99999999999999", "9223372036854775807", "1e300", "221845392000", "\"1700000000\"", "null"] {
        assert_eq!(seconds(text), None, "{text}");
    }
    let milliseconds = |text: &str| Document::parse(text).unwrap().root().as_milliseconds().map(|time| time.timestamp_millis());
    assert_eq!(milliseconds("1760000000835"), Some(1_760_000_000_835));
    assert_eq!(milliseconds("1760000000"), Some(1_760_000_000_000));
    assert_eq!(milliseconds("99999999999"), Some(99_999_999_999_000));
    assert_eq!(milliseconds("100000000000"), Some(100_000_000_000));
    assert_eq!(milliseconds("9223372036854775807"), None);
}
