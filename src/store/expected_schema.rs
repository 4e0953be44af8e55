//! The tables and indexes that the migrations make, read off the migrations themselves: there is no second list that could
//! disagree with them. A test compares what is read here with a freshly migrated database.

mod tokens;

use serde::Serialize;

use crate::store::expected_schema::tokens::{Kind, Token, statements};

/// The tables and indexes, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedSchema {
    pub tables: Vec<TableName>,
    pub indexes: Vec<ExpectedIndex>,
}

/// `schema.table`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

/// An index, or the one behind a constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedIndex {
    /// Its schema is the table's.
    pub name: String,
    pub table: TableName,
    pub is_unique: bool,
    pub method: String,
    pub keys: Vec<IndexKey>,
    /// Literals of its `where`; `None` without one.
    pub predicate_literals: Option<Vec<String>>,
    pub constraint: Option<Constraint>,
    /// From `on` to the end of the statement that makes it; empty for a constraint.
    pub definition: String,
}

/// A column or expression of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexKey {
    /// Without white space and outer parentheses.
    pub expression: String,
    pub is_descending: bool,
}

/// The constraint that an index belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constraint {
    PrimaryKey,
    Unique { is_deferred: bool },
}

impl ExpectedSchema {
    /// Reads migrations in their order.
    pub fn read<'a>(migrations: impl IntoIterator<Item = &'a str>) -> ExpectedSchema {
        let mut schema = ExpectedSchema::default();
        for sql in migrations {
            for statement in statements(sql) {
                schema.apply(&mut Cursor { tokens: &statement, at: 0, sql });
            }
        }
        schema
    }

    /// The names of the tables in `public`, which are the application's.
    pub fn application_tables(&self) -> Vec<String> {
        self.tables.iter().filter(|table| table.schema == "public").map(|table| table.name.clone()).collect()
    }

    fn apply(&mut self, statement: &mut Cursor<'_>) {
        if statement.take_all(&["create", "table"]) {
            self.create_table(statement);
        } else if statement.take_all(&["create", "index"]) {
            self.create_index(statement, false);
        } else if statement.take_all(&["create", "unique", "index"]) {
            self.create_index(statement, true);
        } else if statement.take_all(&["drop", "index"]) {
            statement.skip_any(&["concurrently", "if", "exists"]);
            for name in statement.names() {
                self.indexes.retain(|index| !(index.name == name.name && index.table.schema == name.schema));
            }
        } else if statement.take_all(&["drop", "table"]) {
            statement.skip_any(&["if", "exists"]);
            for name in statement.names() {
                self.tables.retain(|table| *table != name);
                self.indexes.retain(|index| index.table != name);
            }
        } else if statement.take_all(&["alter", "index"]) {
            statement.skip_any(&["if", "exists"]);
            let Some(old) = statement.table_name() else { return };
            if statement.take_all(&["rename", "to"])
                && let Some(new) = statement.name()
                && let Some(index) = self.indexes.iter_mut().find(|it| it.name == old.name && it.table.schema == old.schema)
            {
                index.name = new;
            }
        } else if statement.take_all(&["alter", "table"]) {
            statement.skip_any(&["if", "exists", "only"]);
            let Some(table) = statement.table_name() else { return };
            for mut action in statement.split_by_comma() {
                self.alter_table(&table, &mut action);
            }
        }
    }

    fn create_table(&mut self, statement: &mut Cursor<'_>) {
        statement.skip_any(&["if", "not", "exists"]);
        let Some(table) = statement.table_name() else { return };
        // A partition has its parent's indexes.
        if statement.take_all(&["partition", "of"]) || self.tables.contains(&table) {
            return;
        }
        self.tables.push(table.clone());
        let Some(mut elements) = statement.parenthesised() else { return };
        for mut element in elements.split_by_comma() {
            self.add_element(&table, &mut element);
        }
    }

    fn alter_table(&mut self, table: &TableName, action: &mut Cursor<'_>) {
        if action.take_all(&["drop", "constraint"]) {
            action.skip_any(&["if", "exists"]);
            let name = action.name();
            self.indexes
                .retain(|index| !(index.constraint.is_some() && index.table == *table && Some(&index.name) == name.as_ref()));
        } else if action.take_all(&["add"]) {
            action.skip_any(&["column", "if", "not", "exists"]);
            self.add_element(table, action);
        }
    }

    /// A column with its constraints, or a constraint of the table.
    fn add_element(&mut self, table: &TableName, element: &mut Cursor<'_>) {
        let of_table = ["constraint", "primary", "unique", "check", "foreign", "exclude", "like"];
        let is_constraint = element.peek().is_some_and(|token| of_table.iter().any(|word| token.is(word)));
        let column = if is_constraint { None } else { element.name() };
        let mut name = None;
        while let Some(token) = element.peek() {
            if token.is("(") {
                element.parenthesised();
            } else if element.take_all(&["constraint"]) {
                name = element.name();
            } else if element.take_all(&["primary", "key"]) {
                self.add_constraint(table, name.take(), column.as_deref(), element, true);
            } else if element.take_all(&["unique"]) {
                element.skip_any(&["nulls", "not", "distinct"]);
                self.add_constraint(table, name.take(), column.as_deref(), element, false);
            } else {
                element.at += 1;
            }
        }
    }

    fn add_constraint(
        &mut self,
        table: &TableName,
        name: Option<String>,
        column: Option<&str>,
        rest: &mut Cursor<'_>,
        is_primary: bool,
    ) {
        let columns: Vec<String> = match column {
            Some(column) => vec![column.to_owned()],
            None => {
                let Some(mut columns) = rest.parenthesised() else { return };
                columns.split_by_comma().iter_mut().filter_map(Cursor::name).collect()
            }
        };
        let of_next = ["references", "check", "null", "default", "primary", "unique", "constraint"];
        let own = rest.rest().iter().take_while(|token| !of_next.iter().any(|word| token.is(word)));
        let is_deferred = own.clone().any(|token| token.is("deferrable")) && own.clone().any(|token| token.is("deferred"));
        // As Postgres names a constraint that has no name.
        let made_name =
            if is_primary { format!("{}_pkey", table.name) } else { format!("{}_{}_key", table.name, columns.join("_")) };
        self.indexes.push(ExpectedIndex {
            name: name.unwrap_or(made_name),
            table: table.clone(),
            is_unique: true,
            method: "btree".into(),
            keys: columns.into_iter().map(|expression| IndexKey { expression, is_descending: false }).collect(),
            predicate_literals: None,
            constraint: Some(if is_primary { Constraint::PrimaryKey } else { Constraint::Unique { is_deferred } }),
            definition: String::new(),
        });
    }

    fn create_index(&mut self, statement: &mut Cursor<'_>, is_unique: bool) {
        statement.skip_any(&["concurrently", "if", "not", "exists"]);
        let Some(name) = statement.name() else { return };
        let definition = statement.text();
        if !statement.take_all(&["on"]) {
            return;
        }
        statement.skip_any(&["only"]);
        let Some(table) = statement.table_name() else { return };
        let method = if statement.take_all(&["using"]) { statement.name() } else { None };
        let Some(mut keys) = statement.parenthesised() else { return };
        let is_there = self.indexes.iter().any(|index| index.name == name && index.table.schema == table.schema);
        if is_there {
            return;
        }
        let predicate = statement.rest().iter().position(|token| token.is("where"));
        let literals = |from: usize| {
            let literals = statement.rest().iter().skip(from).filter(|token| token.kind == Kind::Literal);
            let mut literals: Vec<String> = literals.map(|token| token.text.clone()).collect();
            literals.sort_unstable();
            literals
        };
        self.indexes.push(ExpectedIndex {
            name,
            table,
            is_unique,
            method: method.unwrap_or_else(|| "btree".into()),
            keys: keys.split_by_comma().iter().map(Cursor::index_key).collect(),
            predicate_literals: predicate.map(literals),
            constraint: None,
            definition,
        });
    }
}

impl ExpectedIndex {
    /// Statements that make it without keeping anybody from writing, each to be run outside of a transaction.
    pub fn creation(&self) -> Vec<String> {
        let (name, table) = (quote(&self.name), self.table.quoted());
        let Some(constraint) = self.constraint else {
            let unique = if self.is_unique { "unique " } else { "" };
            return vec![format!("create {unique}index concurrently {name} {}", self.definition)];
        };
        vec![
            format!("create unique index concurrently {name} on {table} ({})", self.columns()),
            format!("alter table {table} add constraint {name} {} using index {name}{}", constraint.words(), constraint.timing()),
        ]
    }

    /// The columns of a constraint, as they stand between parentheses.
    pub(crate) fn columns(&self) -> String {
        self.keys.iter().map(|key| quote(&key.expression)).collect::<Vec<String>>().join(", ")
    }
}

impl Constraint {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Constraint::PrimaryKey => "primary key",
            Constraint::Unique { .. } => "unique",
        }
    }

    fn timing(self) -> &'static str {
        match self {
            Constraint::Unique { is_deferred: true } => " deferrable initially deferred",
            Constraint::Unique { is_deferred: false } | Constraint::PrimaryKey => "",
        }
    }
}

impl TableName {
    /// As it stands in a statement.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A name as it stands in a statement: in quotation marks where it needs them.
pub(crate) fn quote(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    // Columns of ours that are key words of SQL.
    let is_reserved = ["position", "user", "order", "table", "default", "check", "end"].contains(&name);
    if is_plain && !is_reserved { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// An expression without white space, casts to text and outer parentheses, to be compared with another's.
pub(crate) fn plain_expression(expression: &str) -> String {
    let mut plain: String = expression.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
    plain = plain.replace("::text", "");
    while plain.starts_with('(') && plain.ends_with(')') {
        plain = plain.get(1..plain.len() - 1).unwrap_or_default().to_owned();
    }
    plain
}

/// A place in a statement.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
    sql: &'a str,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    /// The rest as it was written.
    fn text(&self) -> String {
        let (first, last) = (self.rest().first(), self.rest().last());
        let range = first.map_or(0, |token| token.start)..last.map_or(0, |token| token.end);
        self.sql.get(range).unwrap_or_default().to_owned()
    }

    /// Goes past these words, if all of them come next.
    fn take_all(&mut self, words: &[&str]) -> bool {
        let come = words.iter().zip(self.rest()).filter(|(word, token)| token.is(word)).count() == words.len();
        if come {
            self.at += words.len();
        }
        come
    }

    fn skip_any(&mut self, words: &[&str]) {
        while self.peek().is_some_and(|token| words.iter().any(|word| token.is(word))) {
            self.at += 1;
        }
    }

    fn name(&mut self) -> Option<String> {
        let token = self.peek().filter(|token| token.is_name())?;
        self.at += 1;
        Some(token.text.clone())
    }

    /// `name` alone is in `public`.
    fn table_name(&mut self) -> Option<TableName> {
        let first = self.name()?;
        if !self.take_all(&["."]) {
            return Some(TableName { schema: "public".into(), name: first });
        }
        Some(TableName { schema: first, name: self.name()? })
    }

    fn names(&mut self) -> Vec<TableName> {
        self.split_by_comma().iter_mut().filter_map(Cursor::table_name).collect()
    }

    /// What stands in the parentheses that come next; goes past them.
    fn parenthesised(&mut self) -> Option<Cursor<'a>> {
        self.peek().filter(|token| token.is("("))?;
        let mut depth = 0_usize;
        for (offset, token) in self.rest().iter().enumerate() {
            depth += usize::from(token.is("("));
            depth -= usize::from(token.is(")"));
            if depth == 0 {
                let inner = self.tokens.get(self.at + 1..self.at + offset).unwrap_or_default();
                self.at += offset + 1;
                return Some(Cursor { tokens: inner, at: 0, sql: self.sql });
            }
        }
        None
    }

    /// The rest, cut at the commas outside of parentheses.
    fn split_by_comma(&mut self) -> Vec<Cursor<'a>> {
        let mut depth = 0_usize;
        let parts = self.rest().split(|token| {
            depth += usize::from(token.is("("));
            depth = depth.saturating_sub(usize::from(token.is(")")));
            depth == 0 && token.is(",")
        });
        parts.map(|tokens| Cursor { tokens, at: 0, sql: self.sql }).collect()
    }

    fn index_key(&self) -> IndexKey {
        let ends = ["asc", "desc", "nulls", "collate"];
        let length = self.rest().iter().position(|token| ends.iter().any(|word| token.is(word))).unwrap_or(self.rest().len());
        let own = Cursor { tokens: self.rest().get(..length).unwrap_or_default(), at: 0, sql: self.sql };
        IndexKey { expression: plain_expression(&own.text()), is_descending: self.rest().iter().any(|token| token.is("desc")) }
    }
}

#[cfg(test)]
mod tests;
