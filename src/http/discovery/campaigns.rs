//! `/v1/campaigns`.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{deleted, id_of, unknown};
use crate::domain::discovery::CampaignStatus;
use crate::http::auth::Caller;
use crate::http::input::{Body, NoQuery, values};
use crate::http::listing::{Origin, OwnedListing};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{List, Page, Paging};
use crate::http::problem::Problem;
use crate::http::server::{Services, collection, single};
use crate::store::{Campaign, CampaignFilter, CampaignOutcome, CampaignUpdate, Change, NewCampaign, Reading};

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config.service(collection("/campaigns", list, create)).service(single("/campaigns/{id}", show, update, delete));
}

/// The newest first.
pub(in crate::http) enum Campaigns {}

impl List for Campaigns {
    const NAME: &'static str = "campaigns";
    type Row = Campaign;
    type Key = (DateTime<Utc>, Uuid);

    fn key(row: &Campaign) -> Self::Key {
        (row.created_at, row.id)
    }
}

/// Which campaigns to list. All filters hold together.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct CampaignQuery {
    #[param(inline)]
    status: Option<CampaignStatus>,
    #[serde(default, deserialize_with = "values::text::<_, 20>")]
    #[param(min_length = 1, max_length = 20)]
    search_type: Option<String>,
}

/// Campaigns, newest first
#[utoipa::path(get, path = "/v1/campaigns", tag = "campaigns", operation_id = "list_campaigns",
    params(Origin, CampaignQuery, Paging::<Campaigns>),
    responses((status = 200, description = "A page of campaigns", body = Page<Campaign>), ReadRefusals))]
pub(in crate::http) async fn list(
    query: OwnedListing<Campaigns, CampaignQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let OwnedListing { filter, origin, paging } = query;
    let filter = CampaignFilter {
        user_id: caller.narrow(origin.user_id)?,
        status: filter.status,
        search_type: filter.search_type,
        created_from: origin.created_from,
        created_before: origin.created_before,
        after: paging.after,
        limit: paging.rows(),
    };
    Ok(paging.answer(services.store()?.list_campaigns(&filter).await?))
}

/// A campaign to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CampaignPost {
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
    #[serde(default, deserialize_with = "values::text::<_, 20>")]
    #[schema(min_length = 1, max_length = 20)]
    search_type: Option<String>,
    /// `draft` when left out.
    #[schema(value_type = Option<CampaignStatus>)]
    status: Option<CampaignStatus>,
}

/// Make a campaign
///
/// It is counted by the meter `campaigns` in the same transaction; where the plan's limit is reached, nothing is made.
#[utoipa::path(post, path = "/v1/campaigns", tag = "campaigns", operation_id = "create_campaign", request_body = CampaignPost,
    responses((status = 201, description = "The campaign", body = Campaign), WriteRefusals))]
pub(in crate::http) async fn create(
    caller: Caller,
    body: Body<CampaignPost>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let Body(new) = body;
    let new = NewCampaign {
        user_id: new.user_id,
        name: new.name,
        description: new.description,
        search_type: new.search_type,
        status: new.status.unwrap_or(CampaignStatus::Draft),
    };
    match services.store()?.create_campaign(&new, services.clock.now()).await? {
        CampaignOutcome::Done(campaign) => Ok(HttpResponse::Created().json(campaign)),
        other => Err(refused(&other)),
    }
}

/// One campaign
#[utoipa::path(get, path = "/v1/campaigns/{id}", tag = "campaigns", operation_id = "show_campaign",
    params(("id" = Uuid, Path)), responses((status = 200, description = "The campaign", body = Campaign), ReadRefusals))]
pub(in crate::http) async fn show(
    id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let found = services.store()?.find_campaign(id_of(&id, "campaign")?, caller.owner()).await?;
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::no_such("campaign"))?))
}

/// What becomes of a campaign. A field that is absent is kept, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CampaignPatch {
    #[serde(default, deserialize_with = "values::text_kept::<_, 500>")]
    #[schema(min_length = 1, max_length = 500, nullable = false)]
    name: Option<String>,
    #[serde(default, deserialize_with = "values::text_change::<_, 10000>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 10000)]
    description: Change<String>,
    #[serde(default, deserialize_with = "values::text_change::<_, 20>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 20)]
    search_type: Change<String>,
    /// To archive gives the campaign back to the meter; to take it out of the archive counts it again.
    #[serde(default, deserialize_with = "values::kept")]
    #[schema(value_type = CampaignStatus, required = false)]
    status: Option<CampaignStatus>,
}

/// Change a campaign
#[utoipa::path(patch, path = "/v1/campaigns/{id}", tag = "campaigns", operation_id = "update_campaign",
    params(("id" = Uuid, Path)), request_body = CampaignPatch,
    responses((status = 200, description = "The campaign as it is now", body = Campaign), WriteRefusals))]
pub(in crate::http) async fn update(
    id: web::Path<String>,
    caller: Caller,
    body: Body<CampaignPatch>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (id, Body(patch)) = (id_of(&id, "campaign")?, body);
    let update =
        CampaignUpdate { name: patch.name, description: patch.description, search_type: patch.search_type, status: patch.status };
    match services.store()?.update_campaign(id, &update, services.clock.now()).await? {
        CampaignOutcome::Done(campaign) => Ok(HttpResponse::Ok().json(campaign)),
        other => Err(refused(&other)),
    }
}

/// Delete a campaign with its jobs and their results
#[utoipa::path(delete, path = "/v1/campaigns/{id}", tag = "campaigns", operation_id = "delete_campaign",
    params(("id" = Uuid, Path)), responses((status = 204, description = "It is gone"), WriteRefusals))]
pub(in crate::http) async fn delete(
    id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    deleted(services.store()?.delete_campaign(id_of(&id, "campaign")?, services.clock.now()).await?, "campaign")
}

fn refused(outcome: &CampaignOutcome) -> Problem {
    match outcome {
        CampaignOutcome::LimitReached(Reading { used, limit, .. }) => {
            let limit = limit.unwrap_or(0);
            Problem::conflict(format!("the plan allows {limit} live campaigns, and {used} are")).at("campaigns")
        }
        CampaignOutcome::UnknownUser => unknown("user_id", "user"),
        CampaignOutcome::Done(_) | CampaignOutcome::NotFound => Problem::no_such("campaign"),
    }
}
