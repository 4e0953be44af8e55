//! `/v1/lists`: the lists of creators that users keep.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{deleted, id_of, unknown};
use crate::http::auth::Caller;
use crate::http::input::{Body, NoQuery, values};
use crate::http::listing::{Origin, OwnedListing};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{List, Page, Paging};
use crate::http::problem::Problem;
use crate::http::server::{Services, collection, single};
use crate::store::{Change, CreatorList, CreatorListFilter, CreatorListUpdate};

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config.service(collection("/lists", list, create)).service(single("/lists/{id}", show, update, delete));
}

/// The newest first.
pub(in crate::http) enum Lists {}

impl List for Lists {
    const NAME: &'static str = "lists";
    type Row = CreatorList;
    type Key = (DateTime<Utc>, Uuid);

    fn key(row: &CreatorList) -> Self::Key {
        (row.created_at, row.id)
    }
}

/// Which lists to list. All filters hold together.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ListQuery {
    is_archived: Option<bool>,
}

/// Lists, newest first
#[utoipa::path(get, path = "/v1/lists", tag = "lists", operation_id = "list_lists", params(Origin, ListQuery, Paging::<Lists>),
    responses((status = 200, description = "A page of lists", body = Page<CreatorList>), ReadRefusals))]
pub(in crate::http) async fn list(
    query: OwnedListing<Lists, ListQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let OwnedListing { filter, origin, paging } = query;
    let filter = CreatorListFilter {
        user_id: caller.narrow(origin.user_id)?,
        is_archived: filter.is_archived,
        created_from: origin.created_from,
        created_before: origin.created_before,
        after: paging.after,
        limit: paging.rows(),
    };
    Ok(paging.answer(services.store()?.list_creator_lists(&filter).await?))
}

/// A list to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ListPost {
    /// The Clerk id of its owner.
    #[serde(deserialize_with = "values::required_text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255)]
    user_id: String,
    #[serde(deserialize_with = "values::required_text::<_, 500>")]
    #[schema(min_length = 1, max_length = 500)]
    name: String,
    #[serde(default, deserialize_with = "values::text::<_, 10000>")]
    #[schema(min_length = 1, max_length = 10000)]
    description: Option<String>,
}

/// Make a list
#[utoipa::path(post, path = "/v1/lists", tag = "lists", operation_id = "create_list", request_body = ListPost,
    responses((status = 201, description = "The list", body = CreatorList), WriteRefusals))]
pub(in crate::http) async fn create(
    caller: Caller,
    body: Body<ListPost>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (Body(new), now) = (body, services.clock.now());
    let made = services.store()?.create_creator_list(&new.user_id, &new.name, new.description.as_deref(), now).await?;
    Ok(HttpResponse::Created().json(made.ok_or_else(|| unknown("user_id", "user"))?))
}

/// One list
#[utoipa::path(get, path = "/v1/lists/{id}", tag = "lists", operation_id = "show_list", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The list", body = CreatorList), ReadRefusals))]
pub(in crate::http) async fn show(
    id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let found = services.store()?.find_creator_list(id_of(&id, "list")?, caller.owner()).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::no_such("list"))?))
}

/// What becomes of a list. A field that is absent is kept, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ListPatch {
    #[serde(default, deserialize_with = "values::text_kept::<_, 500>")]
    #[schema(min_length = 1, max_length = 500, nullable = false)]
    name: Option<String>,
    #[serde(default, deserialize_with = "values::text_change::<_, 10000>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 10000)]
    description: Change<String>,
    #[serde(default, deserialize_with = "values::kept")]
    #[schema(nullable = false)]
    is_archived: Option<bool>,
}

/// Change a list
#[utoipa::path(patch, path = "/v1/lists/{id}", tag = "lists", operation_id = "update_list", params(("id" = Uuid, Path)),
    request_body = ListPatch, responses((status = 200, description = "The list as it is now", body = CreatorList), WriteRefusals))]
pub(in crate::http) async fn update(
    id: web::Path<String>,
    caller: Caller,
    body: Body<ListPatch>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let Body(patch) = body;
    let update = CreatorListUpdate { name: patch.name, description: patch.description, is_archived: patch.is_archived };
    let updated = services.store()?.update_creator_list(id_of(&id, "list")?, &update).await?;
    Ok(HttpResponse::Ok().json(updated.ok_or_else(|| Problem::no_such("list"))?))
}

/// Delete a list with what is on it
#[utoipa::path(delete, path = "/v1/lists/{id}", tag = "lists", operation_id = "delete_list", params(("id" = Uuid, Path)),
    responses((status = 204, description = "It is gone"), WriteRefusals))]
pub(in crate::http) async fn delete(
    id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    deleted(services.store()?.delete_creator_list(id_of(&id, "list")?).await?, "list")
}
