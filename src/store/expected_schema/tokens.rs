//! SQL as words: just enough to find the statements that make tables and indexes. What stands in quotes, dollar quotes and
//! comments is never taken for SQL.

/// One word of a statement, and where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// A name in lower case unless it is quoted, a literal's contents, a symbol.
    pub text: String,
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Word,
    QuotedName,
    Literal,
    Symbol,
}

impl Token {
    /// Whether it is that keyword or symbol.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Symbol) && self.text == text
    }

    /// Whether it can be the name of something.
    pub fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::QuotedName)
    }
}

/// The statements of a text, each without its semicolon.
pub fn statements(sql: &str) -> Vec<Vec<Token>> {
    let mut statements = Vec::new();
    let mut statement = Vec::new();
    for token in tokens(sql) {
        if token.is(";") {
            statements.push(std::mem::take(&mut statement));
        } else {
            statement.push(token);
        }
    }
    statements.push(statement);
    statements.retain(|statement| !statement.is_empty());
    statements
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, token) = next(rest);
        if let Some((kind, text)) = token {
            found.push(Token { kind, text, start: at, end: at + length });
        }
        at += length;
    }
    found
}

/// The length of what the text begins with, at least one character, and the token that it is, if it is one.
fn next(rest: &str) -> (usize, Option<(Kind, String)>) {
    let first = rest.chars().next().unwrap_or_default();
    if rest.starts_with("--") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), None);
    }
    if let Some(tag) = dollar_tag(rest) {
        let inner = rest.get(tag.len()..).unwrap_or_default();
        let end = inner.find(tag).unwrap_or(inner.len());
        let length = (tag.len() + end + tag.len()).min(rest.len());
        return (length, Some((Kind::Literal, inner.get(..end).unwrap_or_default().to_owned())));
    }
    if first == '\'' || first == '"' {
        let kind = if first == '"' { Kind::QuotedName } else { Kind::Literal };
        let (length, text) = quoted(rest, first);
        return (length, Some((kind, text)));
    }
    if is_word_start(first) {
        let length = rest.find(|c: char| !(is_word_start(c) || c.is_ascii_digit() || c == '$')).unwrap_or(rest.len());
        return (length, Some((Kind::Word, rest.get(..length).unwrap_or_default().to_lowercase())));
    }
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    (first.len_utf8(), Some((Kind::Symbol, first.to_string())))
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// `$$` or `$name$` at the beginning; a parameter such as `$1` is none.
fn dollar_tag(rest: &str) -> Option<&str> {
    let inner = rest.strip_prefix('$')?;
    let end = inner.find('$')?;
    let tag = inner.get(..end)?;
    let is_tag = tag.chars().all(|c| is_word_start(c) || c.is_ascii_digit()) && !tag.starts_with(|c: char| c.is_ascii_digit());
    if is_tag { rest.get(..end + 2) } else { None }
}

/// The length of a quoted text with its quotation marks, and its contents.
fn quoted(rest: &str, mark: char) -> (usize, String) {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c != mark {
            text.push(c);
        } else if characters.peek().is_some_and(|(_, next)| *next == mark) {
            characters.next();
            text.push(mark);
        } else {
            return (at + mark.len_utf8(), text);
        }
    }
    (rest.len(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<Vec<String>> {
        statements(sql).into_iter().map(|statement| statement.into_iter().map(|token| token.text).collect()).collect()
    }

    #[test]
    fn quotes_and_comments_hide_what_is_in_them() {
        let sql = "create INDEX a -- ; drop\n on \"B;b\" (x) where y = 'it''s; ok'; do $$ create index z; $$; /* ; */ select $1";
        assert_eq!(
            texts(sql),
            [
                vec!["create", "index", "a", "on", "B;b", "(", "x", ")", "where", "y", "=", "it's; ok"],
                vec!["do", " create index z; "],
                vec!["select", "$", "1"]
            ]
        );
    }

    #[test]
    fn what_is_not_closed_ends_with_the_text() {
        for sql in ["select 'a", "do $x$ a", "/* a", "\"é", "$", "-- a", "", "$x"] {
            let _no_panic = statements(sql);
        }
    }
}
