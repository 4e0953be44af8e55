//! `/v1/users`: a user's five rows as one object, lists of users, and what the application may write into them.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::domain::billing::access::Access;
use crate::http::auth::Caller;
use crate::http::input::{Body, NoQuery, values};
use crate::http::listing::{Fields, Listing};
use crate::http::openapi::{ReadRefusals, WriteRefusals};
use crate::http::page::{List, Page, Paging};
use crate::http::problem::Problem;
use crate::http::server::{Services, api_resource};
use crate::ingest::missing_user::make_missing_user;
use crate::ingest::transaction::update_user;
use crate::store::{Change, ProfileUpdate, Updated, UserFilter, UserProfile};

/// Longest Clerk id that is looked for.
const CLERK_ID_CHARACTERS: usize = 255;

/// The routes below `/v1`.
pub(super) fn mount(config: &mut web::ServiceConfig) {
    config
        .service(api_resource("/users", "GET, HEAD").route(web::get().to(list)))
        .service(api_resource("/users/{clerk_id}", "GET, HEAD, PATCH").route(web::get().to(show)).route(web::patch().to(update)));
}

/// A user: the five rows, and what follows from them now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct User {
    #[serde(flatten)]
    profile: UserProfile,
    access: Access,
    /// `pending`, `active`, `converted` or `expired`, by the clock rather than by the last projection.
    effective_trial_status: String,
}

impl User {
    fn new(profile: UserProfile, now: DateTime<Utc>) -> User {
        User { access: profile.access(now), effective_trial_status: profile.effective_trial_status(now), profile }
    }
}

/// The newest first.
pub(super) enum Users {}

impl List for Users {
    const NAME: &'static str = "users";
    type Row = User;
    type Key = (DateTime<Utc>, Uuid);

    fn key(row: &User) -> Self::Key {
        (row.profile.created_at, row.profile.id)
    }
}

/// What a list leaves out unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum UserColumn {
    PlanFeatures,
    EmailScheduleStatus,
}

/// Which users to list. All filters hold together.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UserQuery {
    /// In any case.
    #[serde(default, deserialize_with = "values::text::<_, 320>")]
    #[param(min_length = 1, max_length = 320)]
    email: Option<String>,
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[param(min_length = 1, max_length = 255)]
    stripe_customer_id: Option<String>,
    #[serde(default, deserialize_with = "values::text::<_, 255>")]
    #[param(min_length = 1, max_length = 255)]
    stripe_subscription_id: Option<String>,
    #[serde(default, deserialize_with = "values::text::<_, 50>")]
    #[param(min_length = 1, max_length = 50)]
    subscription_status: Option<String>,
    #[serde(default, deserialize_with = "values::text::<_, 50>")]
    #[param(min_length = 1, max_length = 50)]
    current_plan: Option<String>,
    #[serde(default, deserialize_with = "values::instant")]
    created_from: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "values::instant")]
    created_before: Option<DateTime<Utc>>,
    /// The large columns to include.
    #[serde(default)]
    #[param(inline, value_type = Option<Vec<UserColumn>>, min_items = 1, style = Form, explode = false)]
    fields: Fields<UserColumn>,
}

/// Users, newest first
#[utoipa::path(get, path = "/v1/users", tag = "users", params(UserQuery, Paging::<Users>),
    responses((status = 200, description = "A page of users", body = Page<User>), ReadRefusals))]
pub(super) async fn list(
    query: Listing<Users, UserQuery>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let Listing { filter: query, paging } = query;
    let filter = UserFilter {
        email: query.email,
        stripe_customer_id: query.stripe_customer_id,
        stripe_subscription_id: query.stripe_subscription_id,
        subscription_status: query.subscription_status,
        current_plan: query.current_plan,
        created_from: query.created_from,
        created_before: query.created_before,
        after: paging.after,
        limit: paging.rows(),
        with_plan_features: query.fields.has(UserColumn::PlanFeatures),
        with_email_schedule: query.fields.has(UserColumn::EmailScheduleStatus),
    };
    let now = services.clock.now();
    let rows = services.store()?.list_users(&filter).await?;
    Ok(paging.answer(rows.into_iter().map(|profile| User::new(profile, now)).collect()))
}

/// One user
///
/// A user whom no webhook has made yet is asked for at Clerk's, where a key for it is set.
#[utoipa::path(get, path = "/v1/users/{clerk_id}", tag = "users", params(("clerk_id" = String, Path, description = "The Clerk id")),
    responses((status = 200, description = "The user", body = User), ReadRefusals))]
pub(super) async fn show(
    clerk_id: web::Path<String>,
    _query: NoQuery,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_access_to(&clerk_id)?;
    let user = find(&services, &clerk_id).await?;
    Ok(HttpResponse::Ok().json(user))
}

async fn find(services: &Services, clerk_id: &str) -> Result<User, Problem> {
    let clerk_id = known_form(clerk_id)?;
    let store = services.store()?;
    let mut found = store.get_user_profile(clerk_id).await?;
    if found.is_none() && make(services, clerk_id).await? {
        found = store.get_user_profile(clerk_id).await?;
    }
    let profile = found.ok_or_else(|| Problem::no_such("user"))?;
    Ok(User::new(profile, services.clock.now()))
}

async fn make(services: &Services, clerk_id: &str) -> Result<bool, Problem> {
    let Some(source) = services.user_source.as_deref().filter(|_| clerk_id.starts_with("user_")) else { return Ok(false) };
    make_missing_user(source, &services.committer, clerk_id).await.map_err(|cause| {
        tracing::warn!(%cause, "could not make a missing user");
        Problem::unavailable("the user is not known here, and Clerk could not be asked", 5)
    })
}

/// An id that no row can have is nobody's.
pub(super) fn known_form(clerk_id: &str) -> Result<&str, Problem> {
    let fits = !clerk_id.contains('\0') && clerk_id.chars().count() <= CLERK_ID_CHARACTERS;
    if fits { Ok(clerk_id) } else { Err(Problem::no_such("user")) }
}

/// The columns that the application may write. A field that is absent is kept, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPatch {
    #[serde(default, deserialize_with = "values::text_change::<_, 500>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    business_name: Change<String>,
    #[serde(default, deserialize_with = "values::text_change::<_, 10000>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 10000)]
    brand_description: Change<String>,
    #[serde(default, deserialize_with = "values::text_change::<_, 500>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    industry: Change<String>,
    /// `null` is `pending`.
    #[serde(default, deserialize_with = "values::change")]
    #[schema(value_type = Option<OnboardingStep>)]
    onboarding_step: Change<OnboardingStep>,
    /// `null` is false.
    #[serde(default, deserialize_with = "values::change")]
    #[schema(value_type = Option<bool>)]
    is_admin: Change<bool>,
    /// The plan that the user is about to take. Sets `requested_at` to now, unless that is given too.
    #[serde(default, deserialize_with = "values::text_change::<_, 50>")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 50)]
    requested_plan: Change<String>,
    #[serde(default, deserialize_with = "values::instant_change")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    requested_at: Change<DateTime<Utc>>,
    /// By key, when the mail was sent: `{"trial_ending:sub_1": {"sent_at": "2026-03-10T12:00:00Z"}}`.
    #[serde(default)]
    email_schedule_status: BTreeMap<String, SentMark>,
}

/// How far a user has come in setting the application up.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
enum OnboardingStep {
    #[serde(rename = "pending")]
    Pending,
    #[serde(rename = "step-1")]
    First,
    #[serde(rename = "step-2")]
    Second,
    #[serde(rename = "completed")]
    Completed,
}

impl OnboardingStep {
    fn as_str(self) -> &'static str {
        match self {
            OnboardingStep::Pending => "pending",
            OnboardingStep::First => "step-1",
            OnboardingStep::Second => "step-2",
            OnboardingStep::Completed => "completed",
        }
    }
}

/// That a mail was sent, and when; `null`: it was not.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SentMark {
    #[serde(deserialize_with = "values::instant")]
    #[schema(required)]
    sent_at: Option<DateTime<Utc>>,
}

impl UserPatch {
    fn into_update(self, now: DateTime<Utc>) -> ProfileUpdate {
        let implied = self.requested_plan.as_ref().map(|plan| plan.as_ref().map(|_| now));
        ProfileUpdate {
            business_name: self.business_name,
            brand_description: self.brand_description,
            industry: self.industry,
            onboarding_step: self.onboarding_step.map(|step| step.map(|step| step.as_str().to_owned())),
            is_admin: self.is_admin,
            requested_plan: self.requested_plan,
            requested_at: self.requested_at.or(implied),
            sent_emails: self.email_schedule_status.into_iter().map(|(key, mark)| (key, mark.sent_at)).collect(),
        }
    }
}

/// Write the application's own columns
///
/// Each field goes to its table, all in one transaction. A field that the providers own is refused by its name.
#[utoipa::path(patch, path = "/v1/users/{clerk_id}", tag = "users", params(("clerk_id" = String, Path, description = "The Clerk id")),
    request_body = UserPatch, responses((status = 200, description = "The user as it is now", body = User), WriteRefusals))]
pub(super) async fn update(
    clerk_id: web::Path<String>,
    caller: Caller,
    patch: Result<Body<UserPatch>, Problem>,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    caller.expect_service()?;
    let clerk_id = known_form(&clerk_id)?;
    let Body(patch) = patch.map_err(explain_refusal)?;
    let update = patch.into_update(services.clock.now());
    if let Some((key, _)) = update.sent_emails.iter().find(|(key, _)| key.contains('\0')) {
        let shown = key.replace('\0', "\u{fffd}");
        return Err(Problem::invalid("email_schedule_status", format_args!("has a key with NUL: {shown:?}")));
    }
    match update_user(services.store()?, clerk_id, update, &services.rules, &services.clock).await? {
        Updated::Done(profile) => Ok(HttpResponse::Ok().json(User::new(*profile, services.clock.now()))),
        Updated::UnknownUser => Err(Problem::no_such("user")),
        Updated::UnknownEmail(key) => Err(unknown_email(&key)),
    }
}

/// A key is an id: one that is not known is told as such.
fn unknown_email(key: &str) -> Problem {
    let detail = format!("`email_schedule_status`: there is no mail {key:?}");
    Problem::new(StatusCode::NOT_FOUND, detail).at("email_schedule_status")
}

/// A column that exists, yet is not the caller's to write, is told from one that does not exist.
fn explain_refusal(problem: Problem) -> Problem {
    let owner = match problem.parameter() {
        Some("usage_campaigns_current" | "usage_creators_current_month" | "enrichments_current_month") => {
            "is counted by its meter: use …/usage/{meter}/consume and …/release"
        }
        Some("id" | "user_id" | "created_at" | "updated_at" | "access" | "effective_trial_status") => "cannot be written",
        Some(name) if is_provider_owned(name) => "follows from what Clerk and Stripe say, and cannot be written",
        _ => return problem,
    };
    let name = problem.parameter().unwrap_or_default().to_owned();
    Problem::invalid(&name, owner)
}

fn is_provider_owned(name: &str) -> bool {
    let starts = ["card_", "billing_address_", "stripe_", "trial_", "subscription_", "plan_", "usage_", "last_webhook_"];
    let names = [
        "email",
        "full_name",
        "deleted_at",
        "current_plan",
        "intended_plan",
        "billing_sync_status",
        "next_change_at",
        "payment_method_id",
        "signup_timestamp",
        "reset_held",
        "early_reset_subscription",
    ];
    names.contains(&name) || starts.iter().any(|start| name.starts_with(start))
}
