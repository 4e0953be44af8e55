//! The queries that are measured: every one that a user of the API can have run, lists by their first page and by a page at
//! their end, with each filter alone and with those that are used together.

mod lists;
mod rows;

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;

use crate::cli::bench::queries::subjects::Subjects;
use crate::store::{Plan, Store, StoreError};

/// What a query is like, which decides what it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One row by a key.
    Row,
    /// Fifty rows of a list.
    Page,
    /// Everything that is counted of one user.
    Dashboard,
    /// One row that is changed.
    Meter,
}

/// How many rows came.
type Running<'a> = BoxFuture<'a, Result<usize, StoreError>>;

/// Runs a query; the number of the run decides with which values.
type Run = Box<dyn for<'a> Fn(&'a Store, &'a Subjects, u32) -> Running<'a> + Send + Sync>;

/// The plan of what changes something, and so must not be run for its plan alone.
pub type Explaining<'a> = BoxFuture<'a, Result<Plan, StoreError>>;
type Explain = Box<dyn for<'a> Fn(&'a Store, &'a Subjects, u32) -> Explaining<'a> + Send + Sync>;

/// One query.
pub struct Case {
    /// `group: what`, or the group alone.
    pub name: &'static str,
    /// What of the API runs it.
    pub request: &'static str,
    pub kind: Kind,
    pub run: Run,
    /// `None`: a store that logs plans does it.
    pub explain: Option<Explain>,
}

impl Case {
    fn new<F>(kind: Kind, name: &'static str, request: &'static str, run: F) -> Case
    where
        F: for<'a> Fn(&'a Store, &'a Subjects, u32) -> Running<'a> + Send + Sync + 'static,
    {
        Case { name, request, kind, run: Box::new(run), explain: None }
    }
}

/// All, or those with that word in their name.
pub fn select(word: Option<&str>) -> Vec<Case> {
    let all = rows::all().into_iter().chain(lists::all());
    all.filter(|case| word.is_none_or(|word| case.name.contains(word))).collect()
}

/// Refuses a word that is in no query's name.
pub fn word(text: &str) -> Result<String, String> {
    if !text.is_empty() && !select(Some(text)).is_empty() {
        return Ok(text.to_owned());
    }
    let groups: BTreeSet<&str> = select(None).into_iter().filter_map(|case| case.name.split(':').next()).collect();
    let groups: Vec<&str> = groups.into_iter().collect();
    Err(format!("no query has {text:?} in its name; their names begin with {}", groups.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_can_be_selected() {
        let all = select(None);
        let names: BTreeSet<&str> = all.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), all.len());
        let jobs = select(Some("jobs"));
        assert!(jobs.len() > 5 && jobs.len() < all.len());
        assert_eq!(word("jobs"), Ok("jobs".to_owned()));
        assert!(word("").is_err() && word("jbos").is_err_and(|told| told.contains("campaigns, ")), "{:?}", word("jbos"));
    }
}
