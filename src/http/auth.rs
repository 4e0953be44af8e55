//! Who may call the API: bearers of a named token. Several tokens may be in force, so that one can be replaced without a gap.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, ResponseError, web};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error as ThisError;

use crate::http::problem::Problem;
use crate::http::server::Services;

/// The least length of a token.
pub const LEAST_TOKEN_CHARACTERS: usize = 32;

/// A token is refused: it could be guessed.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("the token `{name}` is shorter than {LEAST_TOKEN_CHARACTERS} characters")]
pub struct WeakToken {
    name: String,
}

/// A named bearer token. Only its digest is kept: comparing digests takes the same time whatever the lengths are.
#[derive(Clone)]
pub struct ApiToken {
    name: String,
    digest: [u8; 32],
}

impl ApiToken {
    /// Takes a token that is long enough.
    pub fn new(name: &str, token: &str) -> Result<ApiToken, WeakToken> {
        if token.chars().count() < LEAST_TOKEN_CHARACTERS {
            return Err(WeakToken { name: name.to_owned() });
        }
        Ok(ApiToken { name: name.to_owned(), digest: Sha256::digest(token).into() })
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The application: everything is open to it.
    Service,
}

impl Caller {
    /// Refuses whoever is not the application.
    pub(super) fn expect_service(&self) -> Result<(), Problem> {
        match self {
            Caller::Service => Ok(()),
        }
    }

    /// Refuses a user who asks about another one.
    pub(super) fn expect_access_to(&self, _clerk_id: &str) -> Result<(), Problem> {
        self.expect_service()
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Caller, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Caller>().cloned().ok_or_else(Problem::unauthorized))
    }
}

/// Lets a request with a token pass. Every token is compared, whichever matches.
pub(super) async fn require_token<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let caller = match request.app_data::<web::Data<Services>>() {
        Some(services) => find_caller(&services.api_tokens, bearer(&request)),
        None => None,
    };
    let Some(name) = caller else {
        return Ok(request.into_response(Problem::unauthorized().error_response()).map_into_right_body());
    };
    tracing::debug!(token = %name, "authorised");
    request.extensions_mut().insert(Caller::Service);
    next.call(request).await.map(ServiceResponse::map_into_left_body)
}

fn bearer(request: &ServiceRequest) -> &[u8] {
    let value = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes).unwrap_or_default();
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => b"",
    }
}

fn find_caller(tokens: &[ApiToken], presented: &[u8]) -> Option<String> {
    let digest: [u8; 32] = Sha256::digest(presented).into();
    let mut found = None;
    for token in tokens {
        let matches: Choice = token.digest.ct_eq(&digest);
        if bool::from(matches) {
            found = Some(token.name.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_found_by_its_whole_text() {
        assert!(ApiToken::new("short", &"x".repeat(31)).is_err());
        let tokens = [ApiToken::new("old", &"a".repeat(32)).unwrap(), ApiToken::new("new", &"b".repeat(40)).unwrap()];
        assert_eq!(find_caller(&tokens, "b".repeat(40).as_bytes()).as_deref(), Some("new"));
        assert_eq!(find_caller(&tokens, "a".repeat(32).as_bytes()).as_deref(), Some("old"));
        for wrong in ["", "a", &"a".repeat(31), &"a".repeat(33)] {
            assert_eq!(find_caller(&tokens, wrong.as_bytes()), None, "{wrong}");
        }
        assert!(!format!("{tokens:?}").contains("aaaa"));
    }
}
