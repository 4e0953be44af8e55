//! Pages of a list: their size, and the cursor that leads from one to the next. A cursor is opaque to callers, names its
//! list, and holds where the page before ended, so that the millionth row costs what the first does.

mod key;

use std::fmt;

use actix_web::HttpResponse;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Schema};
use utoipa::{IntoParams, ToSchema};

pub(super) use crate::http::page::key::Key;
use crate::http::problem::Problem;

/// Rows of a page when the caller does not say.
const DEFAULT_LIMIT: u16 = 50;

/// Most rows of a page.
const MAX_LIMIT: u16 = 200;

/// A list that is read page by page.
pub(super) trait List {
    /// What its cursors begin with.
    const NAME: &'static str;
    type Row: Serialize;
    /// What its rows are ordered by; no two rows have the same.
    type Key: Key;
    fn key(row: &Self::Row) -> Self::Key;
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    data: Vec<T>,
    /// For the next page; `null` on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which page of a list is asked for.
pub(super) struct Paging<L: List> {
    /// The key of the last row that was seen.
    pub(super) after: Option<L::Key>,
    limit: Limit,
}

impl<L: List> fmt::Debug for Paging<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paging").field("list", &L::NAME).field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The parameters as they are sent.
#[derive(Debug, Deserialize)]
struct Sent {
    cursor: Option<String>,
    #[serde(default)]
    limit: Limit,
}

impl<L: List> Paging<L> {
    /// The names of its parameters.
    pub(super) const NAMES: &'static [&'static str] = &["cursor", "limit"];

    /// Reads a query string of these parameters alone.
    pub(super) fn read(query: &str) -> Result<Paging<L>, Problem> {
        let sent: Sent = super::input::parse_query(query)?;
        let after = sent.cursor.map(|text| read_cursor::<L>(&text)).transpose()?;
        Ok(Paging { after, limit: sent.limit })
    }

    /// What to ask the database for: one row more tells whether there is a next page.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit.0) + 1
    }

    /// The page, of one row more than was asked for if there are that many.
    pub(super) fn answer(&self, rows: Vec<L::Row>) -> HttpResponse {
        HttpResponse::Ok().json(self.page(rows))
    }

    fn page(&self, mut rows: Vec<L::Row>) -> Page<L::Row> {
        let is_last = rows.len() <= usize::from(self.limit.0);
        rows.truncate(usize::from(self.limit.0));
        let next_cursor = rows.last().filter(|_| !is_last).map(|row| write_cursor::<L>(&L::key(row)));
        Page { data: rows, next_cursor }
    }
}

fn write_cursor<L: List>(key: &L::Key) -> String {
    format!("{}.{}", L::NAME, key.encode())
}

fn read_cursor<L: List>(text: &str) -> Result<L::Key, Problem> {
    let key = text.strip_prefix(L::NAME).and_then(|rest| rest.strip_prefix('.')).and_then(L::Key::decode);
    key.ok_or_else(|| Problem::invalid("cursor", "is none that this list has given"))
}

impl<L: List> IntoParams for Paging<L> {
    fn into_params(_parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let cursor = ObjectBuilder::new().schema_type(Type::String).pattern(Some(format!("^{}\\.{}$", L::NAME, L::Key::PATTERN)));
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(MAX_LIMIT))
            .default(Some(DEFAULT_LIMIT.into()));
        vec![
            parameter("cursor", "The `next_cursor` of the page before.", cursor.build()),
            parameter("limit", "How many rows the page has.", limit.build()),
        ]
    }
}

fn parameter(name: &str, description: &str, schema: impl Into<Schema>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .description(Some(description))
        .required(Required::False)
        .schema(Some(RefOr::T(schema.into())))
        .build()
}

/// How many rows a page has.
#[derive(Clone, Copy, Debug)]
struct Limit(u16);

impl Default for Limit {
    fn default() -> Self {
        Limit(DEFAULT_LIMIT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = u16::deserialize(deserializer)?;
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(Limit(limit));
        }
        Err(serde::de::Error::custom(format_args!("has to be a whole number from 1 to {MAX_LIMIT}")))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use uuid::Uuid;

    use super::*;

    struct Jobs;

    impl List for Jobs {
        const NAME: &'static str = "jobs";
        type Row = (DateTime<Utc>, Uuid);
        type Key = (DateTime<Utc>, Uuid);

        fn key(row: &Self::Row) -> Self::Key {
            *row
        }
    }

    fn rows() -> Vec<(DateTime<Utc>, Uuid)> {
        let at: DateTime<Utc> = "2026-03-10T12:00:00.123456Z".parse().expect("an instant");
        vec![(at, Uuid::max()), (at, Uuid::nil())]
    }

    #[test]
    fn a_cursor_leads_on_after_the_last_row_and_the_last_page_has_none() {
        let first = Paging::<Jobs>::read("limit=1").expect("valid");
        assert_eq!(first.rows(), 2);
        let page = first.page(rows());
        let cursor = page.next_cursor.expect("there is a second page");
        assert_eq!(page.data.len(), 1);
        let second = Paging::<Jobs>::read(&format!("limit=1&cursor={cursor}")).expect("valid");
        assert_eq!(second.after, Some(rows()[0]));
        assert_eq!(second.page(rows().split_off(1)).next_cursor, None);
    }

    #[test]
    fn any_other_text_is_refused() {
        let text = write_cursor::<Jobs>(&rows()[0]);
        let other_list = text.replace("jobs", "campaigns");
        let long = "x".repeat(5000);
        let cut = &text[..text.len() - 1];
        for wrong in ["", "' or 1=1 --", "jobs", "jobs.", cut, &(text.clone() + "0"), &text.to_uppercase(), &other_list, &long] {
            assert!(read_cursor::<Jobs>(wrong).is_err(), "{wrong}");
        }
        for wrong in ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=1&limit=1", "cursor=x&cursor=x"] {
            assert!(Paging::<Jobs>::read(wrong).is_err(), "{wrong}");
        }
    }
}
