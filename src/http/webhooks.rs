//! The two routes that providers deliver to: verify the raw bytes, decode, submit, and tell the sender what became of it.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use crate::domain::event::{Event, Outcome, Provider, Source};
use crate::domain::signature::{self, SignatureError};
use crate::domain::stripe::MalformedEvent;
use crate::domain::{clerk, stripe};
use crate::http::body::read_body;
use crate::http::problem::Problem;
use crate::http::server::Services;
use crate::ingest::committer::SubmitError;
use crate::metrics;

/// `POST /webhooks/stripe`.
pub(super) async fn receive_stripe(
    request: HttpRequest,
    payload: web::Payload,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    receive(Provider::Stripe, &request, payload, &services).await
}

/// `POST /webhooks/clerk`.
pub(super) async fn receive_clerk(
    request: HttpRequest,
    payload: web::Payload,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    receive(Provider::Clerk, &request, payload, &services).await
}

async fn receive(
    provider: Provider,
    request: &HttpRequest,
    payload: web::Payload,
    services: &Services,
) -> Result<HttpResponse, Problem> {
    let (body, reservation) = match read_body(request, payload, &services.committer, services.body_bounds).await {
        Ok(read) => read,
        Err(problem) => {
            metrics::count_refused(provider, "body");
            tracing::warn!(provider = provider.as_str(), cause = %problem, "did not take a webhook's body");
            return Err(problem);
        }
    };
    let event = open(provider, request, body, services).map_err(|refusal| refuse(provider, &refusal))?;
    match services.committer.submit_reserved(event, reservation).await {
        Ok(receipt) => Ok(acknowledge(receipt.outcome)),
        Err(error) => Err(ask_to_retry(provider, error)),
    }
}

/// Why a body is not an event of that provider's.
enum Refusal {
    Signature(SignatureError),
    Malformed(MalformedEvent),
}

/// Verifies the raw bytes, and only then reads them. Some ten microseconds of work, too little to move to another thread.
fn open(provider: Provider, request: &HttpRequest, body: Bytes, services: &Services) -> Result<Event, Refusal> {
    let headers: Vec<(&str, &[u8])> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let (now, tolerance) = (services.clock.now(), services.signature_tolerance);
    if provider == Provider::Clerk {
        let message = signature::standard_webhooks::verify(&headers, body, &services.clerk_secrets, tolerance, now)
            .map_err(Refusal::Signature)?;
        tracing::debug!(secret_index = message.body.secret_index(), "verified");
        clerk::decode_event(&message.body, &message.id, Source::Webhook, &services.rules).map_err(Refusal::Malformed)
    } else {
        let body =
            signature::stripe::verify(&headers, body, &services.stripe_secrets, tolerance, now).map_err(Refusal::Signature)?;
        tracing::debug!(secret_index = body.secret_index(), "verified");
        stripe::decode_event(&body, Source::Webhook, &services.rules).map_err(Refusal::Malformed)
    }
}

fn refuse(provider: Provider, refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::Signature(error) => {
            metrics::count_signature_failure(provider, error.reason());
            tracing::warn!(provider = provider.as_str(), reason = error.reason(), cause = %error, "refused a signature");
            Problem::bad_request(format!("signature: {error}"))
        }
        Refusal::Malformed(error) => {
            metrics::count_refused(provider, "malformed");
            tracing::warn!(provider = provider.as_str(), cause = %error, "signed, but not an event");
            Problem::bad_request(error.to_string())
        }
    }
}

fn acknowledge(outcome: Outcome) -> HttpResponse {
    let body = match outcome {
        Outcome::Applied => r#"{"outcome":"applied"}"#,
        Outcome::Unlinked => r#"{"outcome":"unlinked"}"#,
        Outcome::Stale => r#"{"outcome":"stale"}"#,
        Outcome::Ignored => r#"{"outcome":"ignored"}"#,
        Outcome::Failed => r#"{"outcome":"failed"}"#,
        Outcome::Duplicate => r#"{"outcome":"duplicate"}"#,
    };
    HttpResponse::Ok().content_type("application/json").body(body)
}

fn ask_to_retry(provider: Provider, error: SubmitError) -> Problem {
    let reason = match error {
        SubmitError::QueueFull => "queue_full",
        SubmitError::BytesFull => "bytes_full",
        SubmitError::TimedOut => "timed_out",
        SubmitError::Contended => "contended",
        SubmitError::Unavailable => "unavailable",
        SubmitError::Closed => "closed",
    };
    metrics::count_refused(provider, reason);
    // What the committer met is logged there, once for all the senders that it concerns.
    tracing::debug!(provider = provider.as_str(), reason, "asked a sender to retry");
    Problem::from(error)
}
