//! `/v1/lists/{list_id}/items`: the creators on a list, and their order.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{deleted, id_of};
use crate::domain::json_text::JsonText;
use crate::http::auth::Caller;
use crate::http::input::json::{self, JsonObject};
use crate::http::input::{Body, NoQuery, values};
use crate::http::listing::{Fields, Listing};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{List, Page, Paging};
use crate::http::problem::Problem;
use crate::http::server::{Services, api_resource, collection, single};
use crate::store::{ItemFilter, ItemOutcome, ListItem, NewItem, Ordered};

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config
        .service(collection("/lists/{list_id}/items", list, create))
        .service(api_resource("/lists/{list_id}/order", "PUT").route(web::put().to(order)))
        .service(single("/lists/{list_id}/items/{id}", show, update, delete));
}

/// In the order that their list gives them.
pub(in crate::http) enum Items {}

impl List for Items {
    const NAME: &'static str = "items";
    type Row = ListItem;
    type Key = (i32, Uuid);

    fn key(row: &ListItem) -> Self::Key {
        (row.position, row.id)
    }
}

/// What a list leaves out unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ItemColumn {
    Creator,
}

/// Which items to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ItemQuery {
    #[serde(default, deserialize_with = "values::text::<_, 50>")]
    #[param(min_length = 1, max_length = 50)]
    platform: Option<String>,
    /// `creator`: what is known of each.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<ItemColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<ItemColumn>,
}

/// The items of a list, in their order
#[utoipa::path(get, path = "/v1/lists/{list_id}/items", tag = "lists", operation_id = "list_items",
    params(("list_id" = Uuid, Path), ItemQuery, Paging::<Items>),
    responses((status = 200, description = "A page of items", body = Page<ListItem>), ReadRefusals))]
pub(in crate::http) async fn list(
    list_id: web::Path<String>,
    query: Listing<Items, ItemQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let Listing { filter, paging } = query;
    let filter = ItemFilter {
        platform: filter.platform,
        after: paging.after,
        limit: paging.rows(),
        with_creator: filter.fields.has(ItemColumn::Creator),
    };
    let (store, list_id) = (services.store()?, id_of(&list_id, "list")?);
    if store.find_creator_list(list_id, caller.owner()).await?.is_none() {
        return Err(Problem::no_such("list"));
    }
    Ok(paging.answer(store.list_items(list_id, &filter).await?))
}

/// A creator to put on a list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ItemPost {
    #[serde(deserialize_with = "values::required_text::<_, 50>")]
    #[schema(min_length = 1, max_length = 50)]
    platform: String,
    #[serde(deserialize_with = "values::required_text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255)]
    creator_handle: String,
    #[serde(default, deserialize_with = "json::object")]
    #[schema(value_type = Option<JsonObject>)]
    creator: Option<JsonText>,
    /// Before whoever has this position; at the end when left out.
    #[serde(default, deserialize_with = "values::count")]
    #[schema(minimum = 0)]
    position: Option<i32>,
}

/// Put a creator on a list
#[utoipa::path(post, path = "/v1/lists/{list_id}/items", tag = "lists", operation_id = "create_item",
    params(("list_id" = Uuid, Path)), request_body = ItemPost,
    responses((status = 201, description = "The item", body = ListItem), WriteRefusals))]
pub(in crate::http) async fn create(
    list_id: web::Path<String>,
    caller: Caller,
    body: Body<ItemPost>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let Body(new) = body;
    let new = NewItem {
        platform: new.platform,
        creator_handle: new.creator_handle,
        creator: new.creator.unwrap_or_else(nothing),
        position: new.position,
    };
    match services.store()?.create_item(id_of(&list_id, "list")?, &new, services.clock.now()).await? {
        ItemOutcome::Done(item) => Ok(HttpResponse::Created().json(item)),
        ItemOutcome::NotFound => Err(Problem::no_such("list")),
        ItemOutcome::Duplicate => {
            Err(Problem::conflict("`creator_handle`: the list has that creator already").at("creator_handle"))
        }
        ItemOutcome::Full => Err(Problem::conflict("`position`: none follows the last one; order the list anew").at("position")),
    }
}

/// One item of a list
#[utoipa::path(get, path = "/v1/lists/{list_id}/items/{id}", tag = "lists", operation_id = "show_item",
    params(("list_id" = Uuid, Path), ("id" = Uuid, Path)),
    responses((status = 200, description = "The item", body = ListItem), ReadRefusals))]
pub(in crate::http) async fn show(
    path: web::Path<(String, String)>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let (list_id, id) = ids(&path)?;
    let found = services.store()?.find_item(id, list_id, caller.owner()).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::no_such("item"))?))
}

/// What becomes of an item. A field that is absent is kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ItemPatch {
    /// `null`: nothing is known.
    #[serde(default, deserialize_with = "creator_change")]
    #[schema(value_type = Option<JsonObject>)]
    creator: Option<JsonText>,
    /// Moves it to the place of whoever has this position.
    #[serde(default, deserialize_with = "values::count_kept")]
    #[schema(minimum = 0, nullable = false)]
    position: Option<i32>,
}

fn creator_change<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    Ok(Some(json::object(deserializer)?.unwrap_or_else(nothing)))
}

fn nothing() -> JsonText {
    JsonText::new("{}")
}

/// Change or move an item
#[utoipa::path(patch, path = "/v1/lists/{list_id}/items/{id}", tag = "lists", operation_id = "update_item",
    params(("list_id" = Uuid, Path), ("id" = Uuid, Path)), request_body = ItemPatch,
    responses((status = 200, description = "The item as it is now", body = ListItem), WriteRefusals))]
pub(in crate::http) async fn update(
    path: web::Path<(String, String)>,
    caller: Caller,
    body: Body<ItemPatch>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let ((list_id, id), Body(patch)) = (ids(&path)?, body);
    match services.store()?.update_item(id, list_id, patch.creator.as_ref(), patch.position).await? {
        ItemOutcome::Done(item) => Ok(HttpResponse::Ok().json(item)),
        _ => Err(Problem::no_such("item")),
    }
}

/// Take an item off its list
#[utoipa::path(delete, path = "/v1/lists/{list_id}/items/{id}", tag = "lists", operation_id = "delete_item",
    params(("list_id" = Uuid, Path), ("id" = Uuid, Path)),
    responses((status = 204, description = "It is gone"), WriteRefusals))]
pub(in crate::http) async fn delete(
    path: web::Path<(String, String)>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (list_id, id) = ids(&path)?;
    deleted(services.store()?.delete_item(id, list_id).await?, "item")
}

/// Every item of a list, in the order that they are to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ListOrder {
    item_ids: Vec<Uuid>,
}

/// Order a whole list
#[utoipa::path(put, path = "/v1/lists/{list_id}/order", tag = "lists", operation_id = "order_items",
    params(("list_id" = Uuid, Path)), request_body = ListOrder,
    responses((status = 204, description = "The list has that order"), WriteRefusals))]
pub(in crate::http) async fn order(
    list_id: web::Path<String>,
    caller: Caller,
    body: Body<ListOrder>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    match services.store()?.order_items(id_of(&list_id, "list")?, &body.0.item_ids).await? {
        Ordered::Done => Ok(HttpResponse::NoContent().finish()),
        Ordered::NotFound => Err(Problem::no_such("list")),
        Ordered::OtherItems => Err(Problem::conflict("`item_ids` has to hold every item of the list, each once").at("item_ids")),
    }
}

fn ids((list_id, id): &(String, String)) -> Result<(Uuid, Uuid), Problem> {
    Ok((id_of(list_id, "list")?, id_of(id, "item")?))
}
