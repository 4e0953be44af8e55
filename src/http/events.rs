//! `/v1/events`: the ledger, what each event changed, and replaying one.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::http::auth::Caller;
use crate::http::input::{Query, values};
use crate::http::listing::{Fields, Listing};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{List, Page, Paging};
use crate::http::problem::Problem;
use crate::http::server::{Services, api_resource};
use crate::http::users::known_form;
use crate::ingest::replay::event_from_ledger;
use crate::store::{EventDetail, LedgerEvent, LedgerFilter};

/// All of them, the newest received first.
pub(super) enum Events {}

impl List for Events {
    const NAME: &'static str = "events";
    type Row = LedgerEvent;
    type Key = (DateTime<Utc>, String);

    fn key(row: &LedgerEvent) -> Self::Key {
        (row.received_at, row.event_id.clone())
    }
}

/// A user's, the newest by the provider's clock first.
pub(super) enum UserEvents {}

impl List for UserEvents {
    const NAME: &'static str = "user_events";
    type Row = LedgerEvent;
    type Key = (DateTime<Utc>, String);

    fn key(row: &LedgerEvent) -> Self::Key {
        (row.occurred_at, row.event_id.clone())
    }
}

/// What a list leaves out unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EventColumn {
    Effects,
}

/// Longest id that an event can have in the ledger, with room to spare.
const EVENT_ID_BYTES: usize = 1024;

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config
        .service(api_resource("/events", "GET, HEAD").route(web::get().to(list)))
        .service(api_resource("/events/{event_id}", "GET, HEAD").route(web::get().to(show)))
        .service(api_resource("/events/{event_id}/replay", "POST").route(web::post().to(replay)))
        .service(api_resource("/users/{clerk_id}/events", "GET, HEAD").route(web::get().to(list_of_user)));
}

/// Who has sent an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProviderName {
    Stripe,
    Clerk,
    Import,
}

impl ProviderName {
    fn as_str(self) -> &'static str {
        match self {
            ProviderName::Stripe => "stripe",
            ProviderName::Clerk => "clerk",
            ProviderName::Import => "import",
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutcomeName {
    Applied,
    Unlinked,
    Stale,
    Ignored,
    Failed,
}

impl OutcomeName {
    fn as_str(self) -> &'static str {
        match self {
            OutcomeName::Applied => "applied",
            OutcomeName::Unlinked => "unlinked",
            OutcomeName::Stale => "stale",
            OutcomeName::Ignored => "ignored",
            OutcomeName::Failed => "failed",
        }
    }
}

/// How an event came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceName {
    Webhook,
    Replay,
    CatchUp,
    Reconcile,
    Job,
}

impl SourceName {
    fn as_str(self) -> &'static str {
        match self {
            SourceName::Webhook => "webhook",
            SourceName::Replay => "replay",
            SourceName::CatchUp => "catch_up",
            SourceName::Reconcile => "reconcile",
            SourceName::Job => "job",
        }
    }
}

/// Which events to list. All filters hold together.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    #[param(inline)]
    provider: Option<ProviderName>,
    #[param(inline)]
    outcome: Option<OutcomeName>,
    #[serde(default, rename = "type", deserialize_with = "values::text::<_, 255>")]
    #[param(rename = "type", min_length = 1, max_length = 255)]
    event_type: Option<String>,
    #[param(inline)]
    source: Option<SourceName>,
    /// A Stripe customer or a Clerk user.
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[param(min_length = 1, max_length = 255)]
    owner_id: Option<String>,
    #[serde(default, deserialize_with = "values::instant")]
    received_from: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "values::instant")]
    received_before: Option<DateTime<Utc>>,
    /// `effects`: what each changed.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<EventColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<EventColumn>,
}

/// Events, the newest received first
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery, Paging::<Events>),
    responses((status = 200, description = "A page of events", body = Page<LedgerEvent>), ReadRefusals))]
pub(super) async fn list(
    query: Listing<Events, EventQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let Listing { filter: query, paging } = query;
    let filter = LedgerFilter {
        provider: query.provider.map(|provider| provider.as_str().to_owned()),
        outcome: query.outcome.map(|outcome| outcome.as_str().to_owned()),
        event_type: query.event_type,
        source: query.source.map(|source| source.as_str().to_owned()),
        owner_id: query.owner_id,
        received_from: query.received_from,
        received_before: query.received_before,
        after: paging.after.clone(),
        limit: paging.rows(),
        with_effects: query.fields.has(EventColumn::Effects),
    };
    Ok(paging.answer(services.store()?.list_ledger(&filter).await?))
}

/// What of a user's events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UserEventQuery {
    /// `effects`: what each changed.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<EventColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<EventColumn>,
}

/// The events of a user and of the customers linked to it, the newest by the provider's clock first
#[utoipa::path(get, path = "/v1/users/{clerk_id}/events", tag = "events",
    params(("clerk_id" = String, Path, description = "The Clerk id"), UserEventQuery, Paging::<UserEvents>),
    responses((status = 200, description = "A page of events", body = Page<LedgerEvent>), ReadRefusals))]
pub(super) async fn list_of_user(
    clerk_id: web::Path<String>,
    query: Listing<UserEvents, UserEventQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (Listing { filter, paging }, clerk_id, store) = (query, known_form(&clerk_id)?, services.store()?);
    let with_effects = filter.fields.has(EventColumn::Effects);
    let rows = store.list_ledger_of_user(clerk_id, paging.after.clone(), paging.rows(), with_effects).await?;
    if rows.is_empty() && store.get_user_profile(clerk_id).await?.is_none() {
        return Err(Problem::no_such("user"));
    }
    Ok(paging.answer(rows))
}

/// What one event leaves out unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OneEventColumn {
    Payload,
}

/// Which of two events that have one id.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OneEventQuery {
    /// Needed only where two providers use one id.
    #[param(inline)]
    provider: Option<ProviderName>,
    /// `payload`: what was sent, redacted.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<OneEventColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<OneEventColumn>,
}

/// An event with what it changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventAnswer {
    #[serde(flatten)]
    event: EventDetail,
    /// When it was asked for with `fields=payload` and is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    payload: Option<Box<RawValue>>,
}

/// One event, with what it changed
#[utoipa::path(get, path = "/v1/events/{event_id}", tag = "events",
    params(("event_id" = String, Path, description = "The id in the ledger"), OneEventQuery),
    responses((status = 200, description = "The event", body = EventAnswer), ReadRefusals))]
pub(super) async fn show(
    event_id: web::Path<String>,
    query: Query<OneEventQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let with_payload = query.0.fields.has(OneEventColumn::Payload);
    let mut event = find(&services, &event_id, query.0.provider).await?;
    let payload = event.payload.take().filter(|_| with_payload).and_then(|text| RawValue::from_string(text).ok());
    Ok(HttpResponse::Ok().json(EventAnswer { event, payload }))
}

/// What became of a replayed event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplayAnswer {
    /// `applied`, `unlinked`, `stale`, `ignored`, `failed`, or `duplicate`: it had not failed, so nothing was done.
    outcome: &'static str,
    reason: Option<String>,
}

/// Apply an event that had failed once more
///
/// The payload that the ledger keeps goes the way of a webhook. An event that has not failed is a `duplicate`.
#[utoipa::path(post, path = "/v1/events/{event_id}/replay", tag = "events",
    params(("event_id" = String, Path, description = "The id in the ledger"),
        ("provider" = inline(Option<ProviderName>), Query, description = "Needed only where two providers use one id")),
    responses((status = 200, description = "What became of it", body = ReplayAnswer), WriteRefusals))]
pub(super) async fn replay(
    event_id: web::Path<String>,
    query: Query<ReplayQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let stored = find(&services, &event_id, query.0.provider).await?;
    let event = event_from_ledger(&stored, &services.rules).map_err(|cause| Problem::conflict(cause.to_string()))?;
    let receipt = services.committer.submit(event).await?;
    Ok(HttpResponse::Ok().json(ReplayAnswer { outcome: receipt.outcome.as_str(), reason: receipt.reason }))
}

/// As [`OneEventQuery`], of which only this has a meaning here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayQuery {
    provider: Option<ProviderName>,
}

async fn find(services: &Services, event_id: &str, provider: Option<ProviderName>) -> Result<EventDetail, Problem> {
    let no_such = || Problem::no_such("event");
    if event_id.contains('\0') || event_id.len() > EVENT_ID_BYTES {
        return Err(no_such());
    }
    let mut found = services.store()?.find_event(event_id).await?;
    found.retain(|event| provider.is_none_or(|provider| event.entry.provider == provider.as_str()));
    let event = found.pop().ok_or_else(no_such)?;
    if found.is_empty() { Ok(event) } else { Err(Problem::invalid("provider", "has to tell which of two events is meant")) }
}
