//! `/v1/users/{clerk_id}/usage`: what is used and what is left, and the meters that enforce it.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::domain::billing::usage_period::{Period, plan_rollover};
use crate::http::auth::Caller;
use crate::http::body::{BodyBounds, read_body};
use crate::http::input::{NoQuery, expect_only_json, parse_body, values};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::problem::Problem;
use crate::http::server::Services;
use crate::http::users::known_form;
use crate::metrics;
use crate::store::{ArchivedPeriod, Meter, Metered, Reading, UsageRow};

/// More than any request needs.
const BODY_LIMIT_BYTES: usize = 4096;

/// Archived periods in an answer, newest first.
const PERIODS: i64 = 24;

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    let only_get = || async { Err::<&str, _>(Problem::method_not_allowed("GET, HEAD")) };
    let only_post = || async { Err::<&str, _>(Problem::method_not_allowed("POST")) };
    config
        .service(web::resource("/users/{clerk_id}/usage").route(web::get().to(show)).default_service(web::to(only_get)))
        .service(
            web::resource("/users/{clerk_id}/usage/{meter}/consume")
                .route(web::post().to(consume))
                .default_service(web::to(only_post)),
        )
        .service(
            web::resource("/users/{clerk_id}/usage/{meter}/release")
                .route(web::post().to(release))
                .default_service(web::to(only_post)),
        );
}

/// A field that is not known is refused: a mistyped idempotency key would count twice.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MeterRequest {
    #[serde(deserialize_with = "amount")]
    #[schema(minimum = 1)]
    amount: i32,
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[schema(min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let values::Whole(number) = Deserialize::deserialize(deserializer)?;
    let fits = i32::try_from(number).ok().filter(|amount| *amount > 0);
    fits.ok_or_else(|| D::Error::custom(format_args!("has to be a whole number from 1 to {}", i32::MAX)))
}

/// A meter for people and programs: how much is used of how much, and until when.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeterAnswer {
    /// Of a request to the meter alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    allowed: Option<bool>,
    used: i32,
    /// -1: unlimited. `null`: nothing is granted.
    limit: Option<i32>,
    /// `null`: unlimited.
    remaining: Option<i32>,
    /// `null`: no period zeroes it.
    resets_at: Option<DateTime<Utc>>,
}

impl MeterAnswer {
    fn new(reading: &Reading) -> MeterAnswer {
        let Reading { used, limit, resets_at, allowed } = *reading;
        let remaining = if limit == Some(-1) { None } else { Some(limit.unwrap_or(0).saturating_sub(used).max(0)) };
        MeterAnswer { allowed: Some(allowed), used, limit, remaining, resets_at }
    }

    fn shown(used: i32, limit: Option<i32>, resets_at: Option<DateTime<Utc>>) -> MeterAnswer {
        MeterAnswer { allowed: None, ..MeterAnswer::new(&Reading { allowed: false, used, limit, resets_at }) }
    }
}

/// Count up to the limit, all of it or nothing
#[utoipa::path(post, path = "/v1/users/{clerk_id}/usage/{meter}/consume", tag = "usage", request_body = MeterRequest,
    params(("clerk_id" = String, Path), ("meter" = inline(Meter), Path)),
    responses((status = 200, description = "Whether it was granted", body = MeterAnswer), WriteRefusals))]
pub(super) async fn consume(
    path: web::Path<(String, String)>,
    caller: Caller,
    body: (HttpRequest, web::Payload),
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (clerk_id, meter) = path.into_inner();
    meter_request(&services, &clerk_id, &meter, body, 1).await
}

/// Give back, down to zero
///
/// Campaigns that are archived or deleted over the API give themselves back. What is given back here is not compared with
/// the campaigns that live: it is for an application that writes them into the table itself.
#[utoipa::path(post, path = "/v1/users/{clerk_id}/usage/{meter}/release", tag = "usage", request_body = MeterRequest,
    params(("clerk_id" = String, Path), ("meter" = inline(Meter), Path)),
    responses((status = 200, description = "What is left", body = MeterAnswer), WriteRefusals))]
pub(super) async fn release(
    path: web::Path<(String, String)>,
    caller: Caller,
    body: (HttpRequest, web::Payload),
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let (clerk_id, meter) = path.into_inner();
    meter_request(&services, &clerk_id, &meter, body, -1).await
}

async fn meter_request(
    services: &Services,
    clerk_id: &str,
    meter: &str,
    (request, payload): (HttpRequest, web::Payload),
    sign: i32,
) -> Result<HttpResponse, Problem> {
    let clerk_id = known_form(clerk_id)?;
    let meter = Meter::parse(meter).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "there is no such meter: the meters are campaigns, creators and enrichments")
    })?;
    expect_only_json(&request)?;
    let bounds = BodyBounds { limit_bytes: BODY_LIMIT_BYTES, ..services.body_bounds };
    let (body, _reservation) = read_body(&request, payload, &services.committer, bounds).await?;
    let request: MeterRequest = parse_body(&body)?;
    let key = request.idempotency_key.as_deref();
    let now = services.clock.now();
    let metered = services.store()?.consume(clerk_id, meter, sign * request.amount, key, now).await;
    let metered = metered.inspect_err(|_| metrics::count_meter_request(meter.as_str(), "unavailable"))?;
    match metered {
        Metered::Answered(reading) => {
            let outcome = if reading.allowed { "allowed" } else { "denied" };
            metrics::count_meter_request(meter.as_str(), outcome);
            Ok(HttpResponse::Ok().json(MeterAnswer::new(&reading)))
        }
        Metered::KeyReused => {
            metrics::count_meter_request(meter.as_str(), "key_reused");
            let detail = "`idempotency_key` was used for another meter or amount within the last 24 hours";
            Err(Problem::conflict(detail).at("idempotency_key"))
        }
        Metered::UnknownUser => Err(unknown_user()),
    }
}

fn unknown_user() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such user")
}

/// The meters, and the period that zeroes two of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Meters {
    period_start: Option<DateTime<Utc>>,
    resets_at: Option<DateTime<Utc>>,
    /// True while a payment is overdue: the period does not end.
    reset_held: bool,
    campaigns: MeterAnswer,
    creators: MeterAnswer,
    enrichments: MeterAnswer,
}

impl Meters {
    /// What the next request to each meter will find at `now`.
    pub(super) fn new(row: &UsageRow, now: DateTime<Utc>) -> Meters {
        let (period_start, resets_at, is_over) = match next_period(row, now) {
            Some(next) => (Some(next.start), Some(next.end), true),
            None => (row.usage_period_start, row.usage_reset_date, false),
        };
        let counted = |used: i32| if is_over { 0 } else { used };
        Meters {
            period_start,
            resets_at,
            reset_held: row.reset_held,
            campaigns: MeterAnswer::shown(row.campaigns, row.campaigns_limit, None),
            creators: MeterAnswer::shown(counted(row.creators), row.creators_limit, resets_at),
            enrichments: MeterAnswer::shown(counted(row.enrichments), row.enrichments_limit, resets_at),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageAnswer {
    user_id: String,
    #[serde(flatten)]
    meters: Meters,
    /// Those that have ended, newest first.
    periods: Vec<PeriodAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PeriodAnswer {
    period_start: DateTime<Utc>,
    period_end: DateTime<Utc>,
    campaigns: i32,
    creators: i32,
    enrichments: i32,
    periods_skipped: i32,
}

impl From<ArchivedPeriod> for PeriodAnswer {
    fn from(period: ArchivedPeriod) -> PeriodAnswer {
        PeriodAnswer {
            period_start: period.period_start,
            period_end: period.period_end,
            campaigns: period.usage_campaigns_current,
            creators: period.usage_creators_current_month,
            enrichments: period.enrichments_current_month,
            periods_skipped: period.periods_skipped,
        }
    }
}

/// The meters, and the periods that have ended
///
/// Reading ends no period, but shows what the next request to a meter will find.
#[utoipa::path(get, path = "/v1/users/{clerk_id}/usage", tag = "usage", params(("clerk_id" = String, Path)),
    responses((status = 200, description = "The meters", body = UsageAnswer), ReadRefusals))]
pub(super) async fn show(
    clerk_id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_access_to(&clerk_id)?;
    let clerk_id = known_form(&clerk_id)?;
    let (store, now) = (services.store()?, services.clock.now());
    let row = store.find_usage(clerk_id).await?.ok_or_else(unknown_user)?;
    let periods = store.list_usage_periods(clerk_id, PERIODS).await?;
    Ok(HttpResponse::Ok().json(UsageAnswer {
        user_id: clerk_id.to_owned(),
        meters: Meters::new(&row, now),
        periods: periods.into_iter().map(PeriodAnswer::from).collect(),
    }))
}

/// The period that follows, when the stored one is over.
fn next_period(row: &UsageRow, now: DateTime<Utc>) -> Option<Period> {
    if row.reset_held || row.has_test_clock {
        return None;
    }
    let rollover = plan_rollover(row.usage_anchor?, row.usage_period_start?, row.usage_reset_date?, now)?;
    Some(rollover.next)
}
