//! Reading a body within bounds of bytes and of time, before anything is known about who sends it.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::http::problem::Problem;
use crate::ingest::committer::{Committer, Reservation};

/// How large a body may be, and how long it may take to arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyBounds {
    pub(super) limit_bytes: usize,
    pub(super) read_timeout: Duration,
}

/// The raw bytes, and the memory that is reserved for them: by Content-Length before the first byte is read, for a chunked
/// body as it grows.
pub(super) async fn read_body(
    request: &HttpRequest,
    payload: web::Payload,
    committer: &Committer,
    bounds: BodyBounds,
) -> Result<(Bytes, Reservation), Problem> {
    let announced = announced_length(request)?;
    if announced.is_some_and(|length| length > bounds.limit_bytes) {
        return Err(Problem::too_large(bounds.limit_bytes));
    }
    let reservation = committer.reserve(announced.unwrap_or(0)).map_err(|error| Problem::from(error).closing_connection())?;
    let reading = read_chunks(payload, announced, reservation, bounds.limit_bytes);
    match tokio::time::timeout(bounds.read_timeout, reading).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time").closing_connection()),
    }
}

fn announced_length(request: &HttpRequest) -> Result<Option<usize>, Problem> {
    let Some(value) = request.headers().get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_request("Content-Length is not a number").closing_connection())
}

async fn read_chunks(
    mut payload: web::Payload,
    announced: Option<usize>,
    mut reservation: Reservation,
    limit_bytes: usize,
) -> Result<(Bytes, Reservation), Problem> {
    let Some(first) = payload.next().await.transpose().map_err(|error| unreadable(&error, limit_bytes))? else {
        return Ok((Bytes::new(), reservation));
    };
    let mut reserved = announced.unwrap_or(0);
    reserve_up_to(&mut reservation, &mut reserved, first.len(), limit_bytes)?;
    let Some(second) = payload.next().await.transpose().map_err(|error| unreadable(&error, limit_bytes))? else {
        return Ok((first, reservation));
    };
    let mut body = BytesMut::with_capacity(reserved.max(first.len() + second.len()).min(limit_bytes));
    body.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        reserve_up_to(&mut reservation, &mut reserved, body.len() + chunk.len(), limit_bytes)?;
        body.extend_from_slice(&chunk);
        next = payload.next().await.transpose().map_err(|error| unreadable(&error, limit_bytes))?;
    }
    Ok((body.freeze(), reservation))
}

fn reserve_up_to(reservation: &mut Reservation, reserved: &mut usize, length: usize, limit_bytes: usize) -> Result<(), Problem> {
    if length > limit_bytes {
        return Err(Problem::too_large(limit_bytes));
    }
    if length > *reserved {
        reservation.grow(length - *reserved).map_err(|error| Problem::from(error).closing_connection())?;
        *reserved = length;
    }
    Ok(())
}

fn unreadable(error: &PayloadError, limit_bytes: usize) -> Problem {
    match error {
        PayloadError::Overflow => Problem::too_large(limit_bytes),
        _ => Problem::bad_request("the body could not be read to its end").closing_connection(),
    }
}
