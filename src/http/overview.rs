//! What a start page is made of: a user's numbers, and the plans that there are.

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Datelike, NaiveTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::billing::plan::Plan;
use crate::http::auth::Caller;
use crate::http::input::NoQuery;
use crate::http::openapi::ReadRefusals;
use crate::http::problem::Problem;
use crate::http::server::{Services, api_resource};
use crate::http::usage::Meters;
use crate::http::users::known_form;
use crate::store::RawJson;

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config
        .service(api_resource("/users/{clerk_id}/dashboard", "GET, HEAD").route(web::get().to(dashboard)))
        .service(api_resource("/plans", "GET, HEAD").route(web::get().to(plans)));
}

/// A user's numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Dashboard {
    user_id: String,
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    campaigns_by_status: RawJson,
    /// Made since the first of the calendar month, UTC.
    campaigns_this_month: i64,
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    jobs_by_status: RawJson,
    /// Of those that have one.
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    jobs_by_platform: RawJson,
    jobs_without_platform: i64,
    /// Since the usage period began.
    results_this_period: i64,
    /// In those results.
    creators_found_this_period: i64,
    usage: Meters,
}

/// A user's campaigns, jobs, results and usage in numbers
#[utoipa::path(get, path = "/v1/users/{clerk_id}/dashboard", tag = "users",
    params(("clerk_id" = String, Path, description = "The Clerk id")),
    responses((status = 200, description = "The numbers", body = Dashboard), ReadRefusals))]
pub(super) async fn dashboard(
    clerk_id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_access_to(&clerk_id)?;
    let (clerk_id, now) = (known_form(&clerk_id)?, services.clock.now());
    let row = services.store()?.find_dashboard(clerk_id, now, month_start(now)).await?;
    let row = row.ok_or_else(|| Problem::no_such("user"))?;
    Ok(HttpResponse::Ok().json(Dashboard {
        user_id: clerk_id.to_owned(),
        campaigns_by_status: row.campaigns_by_status,
        campaigns_this_month: row.campaigns_this_month,
        jobs_by_status: row.jobs_by_status,
        jobs_by_platform: row.jobs_by_platform,
        jobs_without_platform: row.jobs_without_platform,
        results_this_period: row.results_this_period,
        creators_found_this_period: row.creators_found_this_period,
        usage: Meters::new(&row.usage, now),
    }))
}

fn month_start(now: DateTime<Utc>) -> DateTime<Utc> {
    let first = now.date_naive().with_day(1).unwrap_or_default();
    first.and_time(NaiveTime::MIN).and_utc()
}

/// A plan of the catalog.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlanAnswer {
    plan_key: String,
    plan_name: String,
    /// -1: unlimited.
    campaigns_limit: i32,
    /// -1: unlimited.
    creators_limit: i32,
    features: serde_json::Value,
    /// A decimal number as text, so that no cent is lost.
    price_monthly: Option<String>,
    price_yearly: Option<String>,
    is_active: bool,
    display_order: i32,
}

impl From<Plan> for PlanAnswer {
    fn from(plan: Plan) -> PlanAnswer {
        PlanAnswer {
            plan_key: plan.plan_key,
            plan_name: plan.plan_name,
            campaigns_limit: plan.campaigns_limit,
            creators_limit: plan.creators_limit,
            features: plan.features,
            price_monthly: plan.price_monthly,
            price_yearly: plan.price_yearly,
            is_active: plan.is_active,
            display_order: plan.display_order,
        }
    }
}

/// The catalog.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlansAnswer {
    data: Vec<PlanAnswer>,
}

/// The plans that there are, in the order in which they are shown
#[utoipa::path(get, path = "/v1/plans", tag = "plans",
    responses((status = 200, description = "The catalog", body = PlansAnswer), ReadRefusals))]
pub(super) async fn plans(_query: NoQuery, _caller: Caller, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    let plans = services.store()?.list_plans().await?;
    Ok(HttpResponse::Ok().json(PlansAnswer { data: plans.into_iter().map(PlanAnswer::from).collect() }))
}
