//! `public.list_items`: creators on a list, each once, in an order that can be changed. Positions say who comes before whom;
//! they may have gaps. Whoever changes them holds the list's row, so that two changes follow one another.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::json_text::JsonText;
use crate::store::error::StoreError;
use crate::store::instants::At;
use crate::store::pool::{RowQuery, Store, Tx};
use crate::store::raw_json::RawJson;

macro_rules! columns {
    ($creator:literal) => {
        concat!(
            "i.id, i.list_id, i.platform, i.creator_handle, case when ",
            $creator,
            " then i.creator end as creator, \
            i.position, i.created_at, i.updated_at "
        )
    };
}

statements! {
    LIST_ITEMS = concat!("select ", columns!("$6"), " from public.list_items i \
        where i.list_id = $1 and ($2::text is null or i.platform = $2) \
          and ($3::int4 is null or (i.position, i.id) > ($3, $4)) \
        order by i.position, i.id limit $5");

    FIND_ITEM = concat!("select ", columns!("true"), " from public.list_items i \
        join public.creator_lists l on l.id = i.list_id join public.users u on u.id = l.user_id \
        where i.id = $1 and i.list_id = $2 and ($3::text is null or u.user_id = $3)");

    LOCK_LIST = "select 1 from public.creator_lists where id = $1 for no key update";

    LAST_POSITION = "select coalesce(max(position), -1) from public.list_items where list_id = $1";

    /// Makes room at $2, as far as where the moved one was.
    SHIFT_UP = "\
        update public.list_items i set position = i.position + 1 \
        where i.list_id = $1 and i.position >= $2 and i.position < $3 and i.id <> $4";

    SHIFT_DOWN = "\
        update public.list_items i set position = i.position - 1 \
        where i.list_id = $1 and i.position > $2 and i.position <= $3 and i.id <> $4";

    INSERT_ITEM = concat!("\
        insert into public.list_items as i (list_id, platform, creator_handle, creator, position, created_at) \
        values ($1, $2, $3, $4::text::jsonb, $5, $6) on conflict (list_id, platform, creator_handle) do nothing \
        returning ", columns!("true"));

    UPDATE_ITEM = concat!("\
        update public.list_items i set creator = coalesce($3::text::jsonb, i.creator), position = coalesce($4, i.position) \
        where i.id = $1 and i.list_id = $2 returning ", columns!("true"));

    FIND_POSITION = "select position from public.list_items where id = $1 and list_id = $2";

    DELETE_ITEM = "delete from public.list_items where id = $1 and list_id = $2";

    LIST_ITEM_IDS = "select id from public.list_items where list_id = $1 order by position, id";

    ORDER_ITEMS = "\
        update public.list_items i set position = x.position \
        from unnest($2::uuid[], $3::int4[]) as x(id, position) \
        where i.list_id = $1 and i.id = x.id and i.position <> x.position";
}

/// A row of `list_items`.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct ListItem {
    pub id: Uuid,
    pub list_id: Uuid,
    pub platform: String,
    pub creator_handle: String,
    /// What is known of the creator; lists leave it out unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub creator: Option<RawJson>,
    /// The lower, the earlier; with gaps.
    pub position: i32,
    #[sqlx(try_from = "At")]
    pub created_at: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    pub updated_at: DateTime<Utc>,
}

/// Which items of a list to list.
#[derive(Clone, Debug, Default)]
pub struct ItemFilter {
    pub platform: Option<String>,
    /// (position, id) of the last one seen.
    pub after: Option<(i32, Uuid)>,
    pub limit: i64,
    pub with_creator: bool,
}

/// An item to add.
#[derive(Clone, Debug)]
pub struct NewItem {
    pub platform: String,
    pub creator_handle: String,
    pub creator: JsonText,
    /// Before whoever has this position; `None`: at the end.
    pub position: Option<i32>,
}

/// What became of a change to a list's items.
#[derive(Clone, Debug)]
pub enum ItemOutcome {
    Done(Box<ListItem>),
    NotFound,
    /// The list has that creator already.
    Duplicate,
    /// No position follows the last one.
    Full,
}

/// What became of ordering a list anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered {
    Done,
    NotFound,
    /// The ids are not those on the list, each once.
    OtherItems,
}

impl Store {
    /// The items of a list in their order.
    pub async fn list_items(&self, list_id: Uuid, filter: &ItemFilter) -> Result<Vec<ListItem>, StoreError> {
        let (after_position, after_id) = filter.after.unzip();
        let bind = |query: RowQuery<ListItem>| {
            query
                .bind(list_id)
                .bind(filter.platform.clone())
                .bind(after_position)
                .bind(after_id)
                .bind(filter.limit)
                .bind(filter.with_creator)
        };
        self.read_planned(LIST_ITEMS, bind).await
    }

    /// An item of that list, if the list is that owner's.
    pub async fn find_item(&self, id: Uuid, list_id: Uuid, owner: Option<&str>) -> Result<Option<ListItem>, StoreError> {
        let bind = |query: RowQuery<ListItem>| query.bind(id).bind(list_id).bind(owner.map(str::to_owned));
        Ok(self.read(FIND_ITEM, bind).await?.pop())
    }

    /// Adds an item.
    pub async fn create_item(&self, list_id: Uuid, new: &NewItem, now: DateTime<Utc>) -> Result<ItemOutcome, StoreError> {
        self.within(async |tx| {
            if !lock_list(tx, list_id).await? {
                return Ok(ItemOutcome::NotFound);
            }
            let (last,): (i32,) = tx.query_as(LAST_POSITION).bind(list_id).fetch_one(tx.connection()?).await?;
            let Some(end) = last.checked_add(1) else { return Ok(ItemOutcome::Full) };
            let position = new.position.unwrap_or(end).min(end);
            let query = tx
                .query_as::<ListItem>(INSERT_ITEM)
                .bind(list_id)
                .bind(new.platform.clone())
                .bind(new.creator_handle.clone())
                .bind(new.creator.as_str().to_owned())
                .bind(position)
                .bind(now);
            let Some(item) = query.fetch_optional(tx.connection()?).await? else { return Ok(ItemOutcome::Duplicate) };
            if position < end {
                shift(tx, SHIFT_UP, list_id, (position, end), item.id).await?;
            }
            Ok(ItemOutcome::Done(Box::new(item)))
        })
        .await
    }

    /// Changes what is known of an item's creator, or moves the item to the place of whoever has that position.
    pub async fn update_item(
        &self,
        id: Uuid,
        list_id: Uuid,
        creator: Option<&JsonText>,
        position: Option<i32>,
    ) -> Result<ItemOutcome, StoreError> {
        self.within(async |tx| {
            if !lock_list(tx, list_id).await? {
                return Ok(ItemOutcome::NotFound);
            }
            let found: Option<(i32,)> =
                tx.query_as(FIND_POSITION).bind(id).bind(list_id).fetch_optional(tx.connection()?).await?;
            let Some((old,)) = found else { return Ok(ItemOutcome::NotFound) };
            let (last,): (i32,) = tx.query_as(LAST_POSITION).bind(list_id).fetch_one(tx.connection()?).await?;
            let position = position.map(|position| position.min(last));
            match position {
                Some(new) if new < old => shift(tx, SHIFT_UP, list_id, (new, old), id).await?,
                Some(new) if new > old => shift(tx, SHIFT_DOWN, list_id, (old, new), id).await?,
                _ => {}
            }
            let query = tx
                .query_as::<ListItem>(UPDATE_ITEM)
                .bind(id)
                .bind(list_id)
                .bind(creator.map(|json| json.as_str().to_owned()))
                .bind(position);
            Ok(ItemOutcome::Done(Box::new(query.fetch_one(tx.connection()?).await?)))
        })
        .await
    }

    /// Takes an item off its list. False when the list has none such.
    pub async fn delete_item(&self, id: Uuid, list_id: Uuid) -> Result<bool, StoreError> {
        self.within(async |tx| {
            lock_list(tx, list_id).await?;
            let query = tx.query(DELETE_ITEM).bind(id).bind(list_id);
            Ok(query.execute(tx.connection()?).await?.rows_affected() > 0)
        })
        .await
    }

    /// Orders a list's items as the ids are, which have to be all of them.
    pub async fn order_items(&self, list_id: Uuid, ids: &[Uuid]) -> Result<Ordered, StoreError> {
        self.within(async |tx| {
            if !lock_list(tx, list_id).await? {
                return Ok(Ordered::NotFound);
            }
            let known: Vec<(Uuid,)> = tx.query_as(LIST_ITEM_IDS).bind(list_id).fetch_all(tx.connection()?).await?;
            let mut known: Vec<Uuid> = known.into_iter().map(|(id,)| id).collect();
            let mut asked = ids.to_vec();
            known.sort_unstable();
            asked.sort_unstable();
            if known != asked {
                return Ok(Ordered::OtherItems);
            }
            let positions: Vec<i32> = (0..).take(ids.len()).collect();
            let query = tx.query(ORDER_ITEMS).bind(list_id).bind(ids.to_vec()).bind(positions);
            query.execute(tx.connection()?).await?;
            Ok(Ordered::Done)
        })
        .await
    }
}

async fn lock_list(tx: &mut Tx, list_id: Uuid) -> Result<bool, StoreError> {
    let locked: Option<(i32,)> = tx.query_as(LOCK_LIST).bind(list_id).fetch_optional(tx.connection()?).await?;
    Ok(locked.is_some())
}

async fn shift(tx: &mut Tx, sql: &'static str, list_id: Uuid, (from, to): (i32, i32), except: Uuid) -> Result<(), StoreError> {
    tx.query(sql).bind(list_id).bind(from).bind(to).bind(except).execute(tx.connection()?).await?;
    Ok(())
}
