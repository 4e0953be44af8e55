//! One request: sent at its pace, tried again where that can help, given up where it cannot.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use crate::clerk_api::ClerkApi;
use crate::clerk_api::error::{ClerkApiError, Code};

/// The longest answer that is read: a page of users is far below.
const LONGEST_ANSWER: usize = 32 * 1024 * 1024;

/// A body, and when what it says was so.
#[derive(Debug)]
pub(super) struct Answer {
    pub text: String,
    /// min(our clock when the request started, the answer's `Date` minus the round trip).
    pub as_of: DateTime<Utc>,
}

/// Why one try failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another try would end the same way.
    Final(ClerkApiError),
    /// 429: everybody has to slow down.
    TooFast { retry_after: Option<Duration> },
    /// 5xx, no answer, half an answer.
    Passing { cause: String, retry_after: Option<Duration> },
}

impl Failure {
    /// The error that is told when this was the last try.
    pub(super) fn into_error(self, attempts: u32) -> ClerkApiError {
        match self {
            Failure::Final(error) => error,
            Failure::TooFast { .. } => {
                ClerkApiError::Unavailable { cause: "answered 429, too many requests".to_owned(), attempts }
            }
            Failure::Passing { cause, .. } => ClerkApiError::Unavailable { cause, attempts },
        }
    }
}

impl ClerkApi {
    /// Gets, trying again with growing pauses: on 429, 5xx, timeouts and cut connections, on no other answer.
    pub(super) async fn get(&self, url: &Url) -> Result<Answer, ClerkApiError> {
        let mut attempt = 1;
        loop {
            let failure = match self.get_once(url).await {
                Ok(answer) => {
                    self.inner.pace.recover();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let asked_for = match &failure {
                Failure::Final(_) => return Err(failure.into_error(attempt)),
                Failure::TooFast { retry_after } | Failure::Passing { retry_after, .. } => *retry_after,
            };
            if let Some(wait) = asked_for.filter(|wait| *wait > self.inner.options.longest_delay) {
                return Err(ClerkApiError::AskedToWait(wait));
            }
            if attempt >= self.inner.options.attempts {
                return Err(failure.into_error(attempt));
            }
            let pause = self.backoff(attempt).max(asked_for.unwrap_or_default());
            tracing::debug!(attempt, pause_ms = pause.as_millis(), "Clerk's API did not answer; trying again");
            match failure {
                Failure::TooFast { .. } => self.inner.pace.hold(pause),
                _ => tokio::time::sleep(pause).await,
            }
            attempt += 1;
        }
    }

    /// One try, at its turn.
    pub(super) async fn get_once(&self, url: &Url) -> Result<Answer, Failure> {
        self.inner.pace.turn().await;
        let started_at = self.inner.clock.now();
        let request = self.inner.client.get(url.clone()).bearer_auth(self.inner.key.expose());
        let response = request.send().await.map_err(|error| passing(&error))?;
        let took = self.inner.clock.now() - started_at;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = read_body(response).await;
        if status.is_success() {
            return Ok(Answer { text: text?, as_of: as_of(started_at, took, &headers) });
        }
        Err(refusal(status, &headers, &text.unwrap_or_default(), started_at))
    }

    /// 250 ms, 500 ms, 1 s, …, each between half and one and a half of that.
    fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.inner.options.first_delay.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        doubled.min(self.inner.options.longest_delay).mul_f64(0.5 + fastrand::f64())
    }
}

async fn read_body(mut response: Response) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| passing(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST_ANSWER {
            return Err(Failure::Final(ClerkApiError::Unreadable("it is too long")));
        }
    }
    String::from_utf8(bytes).map_err(|_| Failure::Final(ClerkApiError::Unreadable("it is not UTF-8")))
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &str, now: DateTime<Utc>) -> Failure {
    let retry_after = retry_after(headers, now);
    let code = Code::of(body);
    match status.as_u16() {
        429 => Failure::TooFast { retry_after },
        401 => Failure::Final(ClerkApiError::Unauthorized(code)),
        403 => Failure::Final(ClerkApiError::Forbidden(code)),
        404 => Failure::Final(ClerkApiError::NotFound(code)),
        status @ 500.. => Failure::Passing { cause: format!("answered {status}"), retry_after },
        status => Failure::Final(ClerkApiError::Refused { status, code }),
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok(),
    }
}

fn as_of(started_at: DateTime<Utc>, took: TimeDelta, headers: &HeaderMap) -> DateTime<Utc> {
    let date = headers.get(DATE).and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
    date.map_or(started_at, |date| started_at.min(date.to_utc() - took))
}

/// Says what went wrong without the address, which may hold a user's id.
fn passing(error: &reqwest::Error) -> Failure {
    let cause = if error.is_timeout() {
        "did not answer in time".to_owned()
    } else if error.is_connect() {
        format!("cannot be reached ({})", root_cause(error))
    } else {
        "cut the connection".to_owned()
    };
    Failure::Passing { cause, retry_after: None }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
