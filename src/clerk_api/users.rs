//! Users: one by id, or all of them in the order in which they were made. See "List all users" in Clerk's API reference.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::clerk_api::error::ClerkApiError;
use crate::clerk_api::{ClerkApi, request::Answer};
use crate::domain::json_text::{Document, Value};

/// How many users can be asked for by id at a time: Clerk's limit.
pub const MOST_IDS: usize = 100;

/// A user, or what a user has, as Clerk describes it.
#[derive(Clone, Debug)]
pub struct FetchedUser {
    /// `None` for something that has no id.
    pub id: Option<String>,
    /// JSON text, for [`crate::domain::clerk::decode_object`].
    pub text: String,
    /// When the request was made, by the earlier of both clocks.
    pub as_of: DateTime<Utc>,
}

/// Where a walk through all users stands: enough for another process to take it up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCursor {
    /// Users that come before the next page.
    pub offset: usize,
    /// When the last one of them was made.
    pub newest_created_at: Option<DateTime<Utc>>,
}

/// A page of users, oldest first.
#[derive(Clone, Debug)]
pub struct UserPage {
    pub users: Vec<FetchedUser>,
    /// `None` after the last page.
    pub next: Option<UserCursor>,
}

impl ClerkApi {
    /// A user by id; `None` when Clerk does not (or no longer) have it.
    pub async fn fetch_user(&self, clerk_id: &str) -> Result<Option<FetchedUser>, ClerkApiError> {
        expect_id(clerk_id)?;
        self.fetch_object(&["v1", "users", clerk_id], clerk_id).await
    }

    /// The next page of all users. Users that are made meanwhile come last and are met; a user that is deleted meanwhile
    /// moves the others up, so every page begins with a user of the page before, and where it does not, further back: then
    /// some users are read twice, which changes nothing, and none is passed over.
    pub async fn list_users(&self, cursor: &UserCursor, since: Option<DateTime<Utc>>) -> Result<UserPage, ClerkApiError> {
        let size = self.inner.options.page_size.max(2);
        let mut overlap = 1;
        loop {
            let offset = cursor.offset.saturating_sub(overlap);
            let (users, created) = self.fetch_page(offset, size, since).await?;
            let is_older = |at: &DateTime<Utc>| cursor.newest_created_at.is_none_or(|newest| *at <= newest);
            let joins = created.first().is_some_and(|first| first.as_ref().is_none_or(is_older));
            if offset > 0 && !joins {
                overlap = overlap.saturating_add(size);
                continue;
            }
            let newest_created_at = created.iter().copied().flatten().max().max(cursor.newest_created_at);
            let more = users.len() >= size;
            let next = more.then(|| UserCursor { offset: offset + users.len(), newest_created_at });
            return Ok(UserPage { users, next });
        }
    }

    /// How many users there are, or have been made since.
    pub async fn count_users(&self, since: Option<DateTime<Utc>>) -> Result<u64, ClerkApiError> {
        #[derive(Deserialize)]
        struct Total {
            total_count: u64,
        }
        let mut url = self.url(&["v1", "users", "count"])?;
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("created_at_after", &(since.timestamp_millis() - 1).to_string());
        }
        let answer = self.get(&url).await?;
        let total: Total = serde_json::from_str(&answer.text).map_err(|_| ClerkApiError::Unreadable("it is not a count"))?;
        Ok(total.total_count)
    }

    /// Which of these users, at most [`MOST_IDS`], Clerk has.
    pub async fn list_known_ids(&self, ids: &[String]) -> Result<Vec<String>, ClerkApiError> {
        #[derive(Deserialize)]
        struct Identified {
            id: String,
        }
        let mut url = self.url(&["v1", "users"])?;
        url.query_pairs_mut().append_pair("limit", &MOST_IDS.to_string());
        url.query_pairs_mut().extend_pairs(ids.iter().map(|id| ("user_id", id)));
        let answer = self.get(&url).await?;
        let users: Vec<Identified> =
            serde_json::from_str(&answer.text).map_err(|_| ClerkApiError::Unreadable("it is not a list of users"))?;
        Ok(users.into_iter().map(|user| user.id).collect())
    }

    /// What a user has subscribed to with Clerk Billing; `None` for nothing.
    pub async fn fetch_billing(&self, clerk_id: &str) -> Result<Option<FetchedUser>, ClerkApiError> {
        expect_id(clerk_id)?;
        self.fetch_object(&["v1", "users", clerk_id, "billing", "subscription"], clerk_id).await
    }

    async fn fetch_object(&self, path: &[&str], clerk_id: &str) -> Result<Option<FetchedUser>, ClerkApiError> {
        match self.get(&self.url(path)?).await {
            Ok(Answer { text, as_of }) => Ok(Some(FetchedUser { id: Some(clerk_id.to_owned()), text, as_of })),
            Err(ClerkApiError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn fetch_page(
        &self,
        offset: usize,
        size: usize,
        since: Option<DateTime<Utc>>,
    ) -> Result<(Vec<FetchedUser>, Vec<Option<DateTime<Utc>>>), ClerkApiError> {
        let mut url = self.url(&["v1", "users"])?;
        let (limit, offset) = (size.to_string(), offset.to_string());
        url.query_pairs_mut().extend_pairs([("limit", limit.as_str()), ("offset", &offset), ("order_by", "+created_at")]);
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("created_at_after", &(since.timestamp_millis() - 1).to_string());
        }
        let answer = self.get(&url).await?;
        let document = Document::parse(&answer.text).map_err(|_| ClerkApiError::Unreadable("it is not JSON"))?;
        let root = document.root();
        if !root.raw().starts_with('[') {
            return Err(ClerkApiError::Unreadable("it is not a list of users"));
        }
        let user = |value: Value<'_>| FetchedUser {
            id: value.get("id").and_then(Value::as_id),
            text: value.raw().to_owned(),
            as_of: answer.as_of,
        };
        let created = |value: Value<'_>| value.get("created_at").and_then(Value::as_milliseconds);
        Ok((root.elements().map(user).collect(), root.elements().map(created).collect()))
    }
}

fn expect_id(clerk_id: &str) -> Result<(), ClerkApiError> {
    let is_id = !clerk_id.is_empty() && clerk_id.len() <= 255;
    if !is_id || !clerk_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(ClerkApiError::NotAnId(clerk_id.chars().take(40).collect()));
    }
    Ok(())
}
