//! Several texts in one parameter. A backslash makes the character that follows it a plain part of the text, so that every text
//! can be written; at the end it is one itself.

/// The texts between separators, without the blanks around them.
pub(in crate::http) fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut rest) = (Vec::new(), Some(text));
    while let Some(text) = rest {
        let (part, behind) = take(text, separator, true);
        parts.push(part);
        rest = behind;
    }
    parts
}

/// What stands before the first separator, and, exactly as it is written, what stands behind it.
pub(in crate::http) fn split_once(text: &str, separator: char) -> (String, Option<String>) {
    let (before, behind) = take(text, separator, false);
    (before, behind.map(str::to_owned))
}

fn take(text: &str, separator: char, trims: bool) -> (String, Option<&str>) {
    let mut part = String::new();
    // Up to where the part has anything but plain blanks.
    let mut kept = 0;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == separator {
            part.truncate(if trims { kept } else { part.len() });
            return (part, text.get(at + separator.len_utf8()..));
        }
        let is_escaped = character == '\\';
        let character = if is_escaped { characters.next().map_or(character, |(_, next)| next) } else { character };
        let is_blank = !is_escaped && character.is_whitespace();
        if !(trims && is_blank && part.is_empty()) {
            part.push(character);
        }
        if !is_blank {
            kept = part.len();
        }
    }
    part.truncate(if trims { kept } else { part.len() });
    (part, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_can_be_written_and_the_blanks_around_it_are_none_of_it() {
        for (text, expected) in [
            ("a,b", vec!["a", "b"]),
            (" a b , c ", vec!["a b", "c"]),
            ("a\\,b,c", vec!["a,b", "c"]),
            ("\\ a\\ ,b", vec![" a ", "b"]),
            ("\\ ", vec![" "]),
            ("\\\\,\\", vec!["\\", "\\"]),
            ("é\\é,", vec!["éé", ""]),
            ("", vec![""]),
        ] {
            assert_eq!(split(text, ','), expected, "{text}");
        }
    }

    #[test]
    fn only_the_first_part_has_escapes_where_there_are_two() {
        let of = |text| split_once(text, '=');
        assert_eq!(of("key"), ("key".to_owned(), None));
        assert_eq!(of(" key =\\=v "), (" key ".to_owned(), Some("\\=v ".to_owned())));
        assert_eq!(of("a\\=b\\\\=v=w"), ("a=b\\".to_owned(), Some("v=w".to_owned())));
        assert_eq!(of("=v"), (String::new(), Some("v".to_owned())));
        assert_eq!(of("key="), ("key".to_owned(), Some(String::new())));
    }
}
