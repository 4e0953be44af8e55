//! `public.creator_lists`: the lists themselves. What is on them is in `list_items`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::store::error::StoreError;
use crate::store::instants::{At, Place};
use crate::store::pool::{RowQuery, Store};
use crate::store::profile_update::Change;

macro_rules! columns {
    () => {
        "l.id, u.user_id, l.name, l.description, l.is_archived, l.created_at, l.updated_at"
    };
}

statements! {
    /// Newest first. Every filter may be absent.
    LIST_CREATOR_LISTS = concat!("select ", columns!(), " from public.creator_lists l \
        join public.users u on u.id = l.user_id \
        where ($1::text is null or l.user_id = (select t.id from public.users t where t.user_id = $1)) \
          and ($2::bool is null or l.is_archived = $2) \
          and ($3::timestamptz is null or l.created_at >= $3) \
          and ($4::timestamptz is null or l.created_at < $4) \
          and ($5::timestamptz is null or (l.created_at, l.id) < ($5, $6)) \
        order by l.created_at desc, l.id desc limit $7");

    FIND_CREATOR_LIST = concat!("select ", columns!(), " from public.creator_lists l join public.users u on u.id = l.user_id \
        where l.id = $1 and ($2::text is null or u.user_id = $2)");

    INSERT_CREATOR_LIST = concat!("\
        with l as ( \
            insert into public.creator_lists (user_id, name, description, created_at) \
            select u.id, $2, $3, $4 from public.users u where u.user_id = $1 for key share returning * \
        ) \
        select ", columns!(), " from l join public.users u on u.id = l.user_id");

    UPDATE_CREATOR_LIST = concat!("\
        with l as ( \
            update public.creator_lists l set name = coalesce($2, l.name), \
                description = case when $3 then $4 else l.description end, is_archived = coalesce($5, l.is_archived) \
            where l.id = $1 returning * \
        ) \
        select ", columns!(), " from l join public.users u on u.id = l.user_id");

    DELETE_CREATOR_LIST = "delete from public.creator_lists where id = $1";
}

/// A row of `creator_lists`.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct CreatorList {
    pub id: Uuid,
    /// The Clerk id of its owner.
    pub user_id: String,
    pub name: String,
    pub description: Option<String>,
    pub is_archived: bool,
    #[sqlx(try_from = "At")]
    pub created_at: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    pub updated_at: DateTime<Utc>,
}

/// Which lists to list.
#[derive(Clone, Debug, Default)]
pub struct CreatorListFilter {
    pub user_id: Option<String>,
    pub is_archived: Option<bool>,
    pub created_from: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    /// (created_at, id) of the last one seen.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    pub limit: i64,
}

/// What becomes of a list's columns.
#[derive(Clone, Debug, Default)]
pub struct CreatorListUpdate {
    pub name: Option<String>,
    pub description: Change<String>,
    pub is_archived: Option<bool>,
}

impl Store {
    /// Lists that pass the filter, newest first.
    pub async fn list_creator_lists(&self, filter: &CreatorListFilter) -> Result<Vec<CreatorList>, StoreError> {
        let (after_at, after_id) = filter.after.unzip();
        let bind = |query: RowQuery<CreatorList>| {
            query
                .bind(filter.user_id.clone())
                .bind(filter.is_archived)
                .bind(filter.created_from)
                .bind(filter.created_before)
                .bind(after_at.map(Place::Before))
                .bind(after_id)
                .bind(filter.limit)
        };
        self.read_planned(LIST_CREATOR_LISTS, bind).await
    }

    /// A list, of that owner if one is given.
    pub async fn find_creator_list(&self, id: Uuid, owner: Option<&str>) -> Result<Option<CreatorList>, StoreError> {
        let bind = |query: RowQuery<CreatorList>| query.bind(id).bind(owner.map(str::to_owned));
        Ok(self.read(FIND_CREATOR_LIST, bind).await?.pop())
    }

    /// Makes a list; `None` when there is no such user.
    pub async fn create_creator_list(
        &self,
        user_id: &str,
        name: &str,
        description: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Option<CreatorList>, StoreError> {
        self.within(async |tx| {
            let query = tx.query_as(INSERT_CREATOR_LIST).bind(user_id.to_owned()).bind(name.to_owned());
            let query = query.bind(description.map(str::to_owned)).bind(now);
            Ok(query.fetch_optional(tx.connection()?).await?)
        })
        .await
    }

    /// Changes a list; `None` when there is none such.
    pub async fn update_creator_list(&self, id: Uuid, update: &CreatorListUpdate) -> Result<Option<CreatorList>, StoreError> {
        self.within(async |tx| {
            let query = tx
                .query_as(UPDATE_CREATOR_LIST)
                .bind(id)
                .bind(update.name.clone())
                .bind(update.description.is_some())
                .bind(update.description.clone().flatten())
                .bind(update.is_archived);
            Ok(query.fetch_optional(tx.connection()?).await?)
        })
        .await
    }

    /// Deletes a list with what is on it. False when there was none.
    pub async fn delete_creator_list(&self, id: Uuid) -> Result<bool, StoreError> {
        self.within(async |tx| Ok(tx.query(DELETE_CREATOR_LIST).bind(id).execute(tx.connection()?).await?.rows_affected() > 0))
            .await
    }
}
