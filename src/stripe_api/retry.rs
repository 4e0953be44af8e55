//! One request, tried until there is an answer or no sense in trying again.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use stripe::{CustomizedStripeRequest, StripeRequest};
use stripe_client_core::{RequestBuilder, StripeClient};

use super::answer::Answer;
use super::request::{Request, Resource};
use super::transport::{Attempt, Cut};
use super::{ApiError, Options, StripeApi};

/// The longest that a `Retry-After` is obeyed within one request.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A request on its way through async-stripe's client interface. That one hands out decoded values alone, so the answer's
/// text and its time are kept here.
struct Call<'a> {
    api: &'a StripeApi,
    resource: Resource,
    answer: OnceLock<Answer>,
}

impl StripeClient for Call<'_> {
    type Err = ApiError;

    async fn execute(&self, request: CustomizedStripeRequest) -> Result<Bytes, ApiError> {
        let (request, _nothing_overridden) = request.into_pieces();
        let answer = self.api.attempt_until_answered(&request, self.resource).await?;
        let _first_and_only = self.answer.set(answer);
        Ok(Bytes::from_static(b"null"))
    }
}

impl StripeApi {
    /// Asks, with retries.
    pub(super) async fn ask(&self, request: Request<'_>) -> Result<Answer, ApiError> {
        let call = Call { api: self, resource: request.resource(), answer: OnceLock::new() };
        request.customize().send(&call).await?;
        call.answer.into_inner().ok_or_else(|| ApiError::Unreadable { path: request.build().path })
    }

    async fn attempt_until_answered(&self, request: &RequestBuilder, resource: Resource) -> Result<Answer, ApiError> {
        let (inner, path) = (&self.inner, request.path.clone());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let tried = {
                let _place = inner.places.acquire().await;
                inner.pace.turn().await;
                inner.transport.attempt(request, inner.options.attempt_timeout).await
            };
            let (cause, retry_after) = match judge(tried, &path, resource)? {
                Verdict::Answered(answer) => {
                    inner.pace.speed_up();
                    return Ok(answer);
                }
                Verdict::Again { cause, retry_after, too_many } => {
                    if too_many {
                        inner.pace.slow_down(retry_after);
                    }
                    (cause, retry_after)
                }
            };
            if attempt >= inner.options.attempts {
                return Err(ApiError::Exhausted { path, attempts: attempt, cause });
            }
            let wait = backoff(&inner.options, attempt).max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER));
            tracing::debug!(path, attempt, cause, ?wait, "asking Stripe again");
            tokio::time::sleep(wait).await;
        }
    }
}

enum Verdict {
    Answered(Answer),
    Again { cause: String, retry_after: Option<Duration>, too_many: bool },
}

/// What an attempt means: an answer, another attempt, or an error that none would mend.
fn judge(tried: Result<Attempt, Cut>, path: &str, resource: Resource) -> Result<Verdict, ApiError> {
    let attempt = match tried {
        Ok(attempt) => attempt,
        Err(cut) => return Ok(Verdict::Again { cause: cut.to_string(), retry_after: None, too_many: false }),
    };
    let path = path.to_owned();
    match attempt.status {
        200..=299 => {
            Ok(Verdict::Answered(Answer { path, body: attempt.body, as_of: attempt.as_of, api_version: attempt.api_version }))
        }
        // Stripe's header knows better than the status whether the same request can succeed; it is not asked about 4xx.
        409 | 429 | 500..=599 if attempt.should_retry != Some(false) => Ok(Verdict::Again {
            cause: format!("status {}", attempt.status),
            retry_after: attempt.retry_after,
            too_many: attempt.status == 429,
        }),
        401 => Err(ApiError::Unauthorized),
        403 => {
            let said = Said::read(&attempt.body);
            Err(ApiError::MissingScope { path, permission: said.permission(resource) })
        }
        404 => Err(ApiError::NotFound { path }),
        status => Err(ApiError::Refused { path, status, code: Said::read(&attempt.body).code() }),
    }
}

/// Doubles from attempt to attempt; between half of it and all of it, so that those who were refused together come apart.
fn backoff(options: &Options, attempt: u32) -> Duration {
    let doubled = options.backoff.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1).min(16)));
    doubled.min(options.longest_backoff).mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Stripe's error object. Its message holds a part of the key and is never passed on.
#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default)]
    error: SaidError,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidError {
    code: Option<String>,
    message: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Said {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// The code, if it looks like one.
    fn code(self) -> Option<String> {
        self.error.code.filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    }

    /// The permission that the message names (`rak_customer_read`), else what the Dashboard calls it.
    fn permission(&self, resource: Resource) -> String {
        let message = self.error.message.as_deref().unwrap_or_default();
        let mut words = message.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        let named = words.rfind(|word| word.starts_with("rak_"));
        named.map_or_else(|| resource.permission().to_owned(), |name| format!("{name} ({})", resource.permission()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_named_and_the_key_is_not() {
        let body = br#"{"error": {"message": "The provided key 'rk_live_*********abcd' does not have the required permissions for this endpoint on account 'acct_1'. Having the 'rak_customer_read' permission would allow this request to continue.", "type": "invalid_request_error"}}"#;
        assert_eq!(Said::read(body).permission(Resource::Customers), "rak_customer_read (Customers: Read)");
        assert_eq!(Said::read(b"{}").permission(Resource::Events), "Events: Read");
        assert_eq!(Said::read(b"nothing").permission(Resource::Events), "Events: Read");
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = Options::default();
        for (attempt, most) in [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (40, 16.0)] {
            let wait = backoff(&options, attempt).as_secs_f64();
            assert!((most / 2.0..=most).contains(&wait), "{attempt}: {wait}");
        }
    }
}
