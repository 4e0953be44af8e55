//! The query string of a list: filters of its own, what most lists can be filtered by, the large columns that are asked for,
//! and the page. Each parameter belongs to exactly one of them, and one that belongs to none is refused by its name.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use chrono::{DateTime, Utc};
use serde::de::value::StrDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error};
use utoipa::IntoParams;

use crate::http::input::{form_pairs, parse_query, values};
use crate::http::page::{List, Paging};
use crate::http::problem::Problem;

/// A list's own filters and its page.
#[derive(Debug)]
pub(super) struct Listing<L: List, F> {
    pub(super) filter: F,
    pub(super) paging: Paging<L>,
}

/// The same of a list whose rows have an owner.
#[derive(Debug)]
pub(super) struct OwnedListing<L: List, F> {
    pub(super) filter: F,
    pub(super) origin: Origin,
    pub(super) paging: Paging<L>,
}

/// Whose rows, and made when.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Origin {
    /// The Clerk id of the owner.
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[param(min_length = 1, max_length = 255)]
    pub(super) user_id: Option<String>,
    #[serde(default, deserialize_with = "values::instant")]
    pub(super) created_from: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "values::instant")]
    pub(super) created_before: Option<DateTime<Utc>>,
}

impl Origin {
    const NAMES: &'static [&'static str] = &["user_id", "created_from", "created_before"];
}

impl<L: List, F: DeserializeOwned> FromRequest for Listing<L, F> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let [page, own] = divide(request.query_string(), &[Paging::<L>::NAMES]);
        ready((|| Ok(Listing { filter: parse_query(&own)?, paging: Paging::read(&page)? }))())
    }
}

impl<L: List, F: DeserializeOwned> FromRequest for OwnedListing<L, F> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let [page, origin, own] = divide(request.query_string(), &[Paging::<L>::NAMES, Origin::NAMES]);
        ready((|| Ok(OwnedListing { filter: parse_query(&own)?, origin: parse_query(&origin)?, paging: Paging::read(&page)? }))())
    }
}

/// Divides a query string by the names of parameters; what has none of them comes last.
fn divide<const PARTS: usize>(query: &str, names: &[&[&str]]) -> [String; PARTS] {
    let mut parts = [const { String::new() }; PARTS];
    for pair in query.split('&') {
        let name = form_pairs(pair).next().map(|(name, _)| name).unwrap_or_default();
        let place = names.iter().position(|names| names.contains(&name.as_ref())).unwrap_or(names.len());
        if let Some(part) = parts.get_mut(place) {
            part.push_str(pair);
            part.push('&');
        }
    }
    parts
}

/// Large columns that are left out unless they are asked for, by their names with commas between them.
#[derive(Debug)]
pub(super) struct Fields<T>(Vec<T>);

impl<T> Default for Fields<T> {
    fn default() -> Self {
        Fields(Vec::new())
    }
}

impl<T: PartialEq> Fields<T> {
    /// Whether that column is to be included.
    pub(super) fn has(&self, column: T) -> bool {
        self.0.contains(&column)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Fields<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let names = text.split(',').map(|name| T::deserialize(StrDeserializer::<D::Error>::new(name.trim())));
        Ok(Fields(names.collect::<Result<_, _>>().map_err(Error::custom)?))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Large {
        Keywords,
        SearchParams,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Own {
        #[serde(default)]
        fields: Fields<Large>,
    }

    #[test]
    fn each_parameter_goes_where_it_belongs_however_it_is_written() {
        let [page, own]: [String; 2] = divide("limit=1&fields=a&%63ursor=x&&odd", &[&["limit", "cursor"]]);
        assert_eq!((page.as_str(), own.as_str()), ("limit=1&%63ursor=x&", "fields=a&&odd&"));
    }

    #[test]
    fn large_columns_are_asked_for_by_name() {
        let read: Own = parse_query("fields=search_params,keywords").expect("valid");
        assert!(read.fields.has(Large::Keywords) && read.fields.has(Large::SearchParams));
        assert!(!parse_query::<Own>("").expect("valid").fields.has(Large::Keywords));
        for wrong in ["fields=", "fields=password", "fields=keywords,,", "fields=keywords&fields=keywords"] {
            let problem = parse_query::<Own>(wrong).expect_err(wrong);
            assert_eq!(problem.parameter(), Some("fields"), "{wrong}");
        }
        assert_eq!(parse_query::<Own>("field=keywords").expect_err("unknown").parameter(), Some("field"));
    }

    #[test]
    fn the_names_are_those_that_are_described() {
        let names: Vec<String> = Origin::into_params(|| None).into_iter().map(|parameter| parameter.name).collect();
        assert_eq!(names, Origin::NAMES);
    }
}
