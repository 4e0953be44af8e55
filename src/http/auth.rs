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
    /// A signed-in user: may read what is theirs.
    User(String),
}

impl Caller {
    /// Refuses whoever is not the application.
    pub(super) fn expect_service(&self) -> Result<(), Problem> {
        match self {
            Caller::Service => Ok(()),
            Caller::User(_) => Err(Problem::forbidden("a signed-in user may only read what is theirs")),
        }
    }

    /// Refuses a user who asks about another one.
    pub(super) fn expect_access_to(&self, clerk_id: &str) -> Result<(), Problem> {
        match self {
            Caller::User(own) if own != clerk_id => Err(Problem::forbidden("a signed-in user may only read what is theirs")),
            _ => Ok(()),
        }
    }

    /// Whose rows a list may show: of a signed-in user their own, whatever was asked for. `None`: everybody's.
    pub(super) fn narrow(&self, asked: Option<String>) -> Result<Option<String>, Problem> {
        match (self, asked) {
            (Caller::Service, asked) => Ok(asked),
            (Caller::User(own), None) => Ok(Some(own.clone())),
            (Caller::User(own), Some(asked)) => {
                self.expect_access_to(&asked)?;
                Ok(Some(own.clone()))
            }
        }
    }

    /// Who owns what is asked for by its id; `None`: anybody.
    pub(super) fn owner(&self) -> Option<&str> {
        match self {
            Caller::Service => None,
            Caller::User(own) => Some(own),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Caller, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Caller>().cloned().ok_or_else(Problem::unauthorized))
    }
}

/// Lets a request with a token of ours or of a session pass.
pub(super) async fn require_caller<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let Some(services) = request.app_data::<web::Data<Services>>().cloned() else {
        return Ok(request.into_response(Problem::unauthorized().error_response()).map_into_right_body());
    };
    match identify(&services, bearer(&request)).await {
        // Before the body is read: what is wrong with it is none of their business.
        Ok(caller @ Caller::User(_)) if !request.method().is_safe() => {
            let problem = caller.expect_service().err().unwrap_or_else(Problem::unauthorized);
            Ok(request.into_response(problem.error_response()).map_into_right_body())
        }
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.call(request).await.map(ServiceResponse::map_into_left_body)
        }
        Err(problem) => Ok(request.into_response(problem.error_response()).map_into_right_body()),
    }
}

/// Every token is compared, whichever matches; a session's is looked at only when none does.
async fn identify(services: &Services, presented: &[u8]) -> Result<Caller, Problem> {
    if let Some(name) = find_caller(&services.api_tokens, presented) {
        tracing::debug!(token = %name, "authorised");
        return Ok(Caller::Service);
    }
    let token = std::str::from_utf8(presented).ok().filter(|token| token.contains('.'));
    let (Some(sessions), Some(token)) = (&services.sessions, token) else { return Err(Problem::unauthorized()) };
    match sessions.verify(token, services.clock.now()).await {
        Ok(clerk_id) => Ok(Caller::User(clerk_id)),
        Err(cause) => {
            tracing::debug!(%cause, "refused a session token");
            Err(Problem::unauthorized())
        }
    }
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
