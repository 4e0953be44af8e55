//! What every request gets: a span with an id of its own, which the answer names. An id that a caller sends is not used:
//! anyone can send one.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use tracing::Span;
use tracing_actix_web::{RequestId, RootSpanBuilder};

use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes the span that every log line of a request is in. What it logs itself are the requests that no handler tells of:
/// failures are logged once, where they are handled, and a line for every success would cost more than the work it tells of.
#[derive(Debug)]
pub(super) struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let id = request.extensions().get::<RequestId>().copied().map(tracing::field::display);
        // At the level of errors, so that those have an id however little else is logged.
        tracing::error_span!("request", id, method = request.method().as_str(), path = request.path())
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = outcome.as_ref().map_or_else(|error| error.as_response_error().status_code(), |answer| answer.status());
        telemetry::tell_answer(&span, status.as_u16(), || outcome.as_ref().ok()?.request().match_pattern());
        match outcome {
            Ok(response) if is_misdirected(response.status()) => {
                let (method, path) = (response.request().method().as_str(), response.request().path());
                tracing::info!(status = response.status().as_u16(), method, path, "refused a request");
            }
            Ok(response) => tracing::debug!(status = response.status().as_u16(), "answered"),
            Err(error) => tracing::error!(%error, "a request failed outside its handler"),
        }
    }
}

/// Refused before any handler saw it: a wrong address, method or token, which an operator wants to know of, and anybody
/// can cause.
fn is_misdirected(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNAUTHORIZED)
}

/// Has HEAD answered wherever GET is, and as it is. The connection, which has seen what was asked, leaves the body out.
pub(super) async fn answer_head<B: MessageBody>(mut request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    next.call(request).await
}

/// Names the request's id in the answer.
pub(super) async fn name_request_id<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let id = request.extensions().get::<RequestId>().copied();
    let mut response = next.call(request).await?;
    if let Some(id) = id {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
    }
    Ok(response)
}
