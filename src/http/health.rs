//! `/healthz`: the process answers. `/readyz`: events get through. `/metrics`.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use crate::http::problem::Problem;
use crate::http::server::Services;
use crate::metrics;

/// How long the database may take to answer before it counts as out of reach.
const DATABASE_PATIENCE: Duration = Duration::from_secs(2);

/// The process is up: nothing else is looked at, so that a restart is not the answer to a database that is down.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(r#"{"alive":true}"#)
}

/// Whether a balancer should send webhooks here, and all the reasons why not.
pub(super) async fn readyz(services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    let reasons = unready_reasons(&services).await;
    if reasons.is_empty() {
        return Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"ready":true}"#));
    }
    Err(Problem::unavailable("events are not being accepted", 2).with_reasons(reasons))
}

async fn unready_reasons(services: &Services) -> Vec<Cow<'static, str>> {
    let mut reasons = Vec::new();
    if services.is_draining() {
        reasons.push("shutting down".into());
    }
    let health = services.committer.health();
    if health.queue_depth >= health.queue_limit {
        reasons.push("the queue is full".into());
    }
    if health.last_failure.is_some() {
        reasons.push("the last commit failed".into());
    }
    if health.stuck {
        reasons.push("the queue does not move".into());
    }
    // Why is in the log: the cause may name hosts and roles, and this answer is public.
    match tokio::time::timeout(DATABASE_PATIENCE, services.committer.probe()).await {
        Ok(true) => {}
        Ok(false) => reasons.push("the database does not accept events".into()),
        Err(_elapsed) => reasons.push("the database does not answer".into()),
    }
    reasons
}

/// Prometheus' text format.
pub(super) async fn show_metrics(services: web::Data<Services>) -> HttpResponse {
    metrics::record_queue_depth(services.committer.health().queue_depth);
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(metrics::render(services.clock.now()))
}
