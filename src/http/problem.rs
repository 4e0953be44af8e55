//! Errors as RFC 9457 problem documents: the one place where an error becomes an HTTP answer.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::ingest::committer::SubmitError;
use crate::ingest::transaction::BatchError;
use crate::store::{ErrorKind, StoreError};

/// An answer other than success. Says what the caller can do about it, never what is in the database or in a payload.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    parameter: Option<String>,
    reasons: Vec<Cow<'static, str>>,
    retry_after_seconds: Option<u32>,
    allow: Option<&'static str>,
    asks_for_token: bool,
    closes_connection: bool,
}

/// An error as RFC 9457 has it, of the media type `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// Always `about:blank`: the status says what it is.
    r#type: &'static str,
    title: &'a str,
    status: u16,
    /// For people.
    detail: &'a str,
    /// The parameter, field or header that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameter: Option<&'a str>,
    /// Where there can be several.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    reasons: &'a [Cow<'static, str>],
}

impl Problem {
    /// The detail is one sentence without a full stop.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
            parameter: None,
            reasons: Vec::new(),
            retry_after_seconds: None,
            allow: None,
            asks_for_token: false,
            closes_connection: false,
        }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400, naming the parameter or field at fault; what is wrong with it follows its name.
    pub fn invalid(parameter: &str, what: impl fmt::Display) -> Problem {
        Problem::bad_request(format!("`{parameter}` {what}")).at(parameter)
    }

    /// 404 of a single thing; of somebody else's too, so that its existence is nobody's to find out.
    pub fn no_such(what: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// 409.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    /// 401, naming the way to be authorised.
    pub fn unauthorized() -> Problem {
        let mut problem = Problem::new(
            StatusCode::UNAUTHORIZED,
            "a bearer token is needed: one of BILLSYNC_API_TOKENS, or a valid session token",
        );
        problem.asks_for_token = true;
        problem
    }

    /// 404.
    pub fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
    }

    /// 405, naming the methods that are allowed.
    pub fn method_not_allowed(allow: &'static str) -> Problem {
        let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("only {allow} is allowed here"));
        problem.allow = Some(allow);
        problem
    }

    /// 415.
    pub fn unsupported_media_type() -> Problem {
        let detail = "`Content-Type` has to be application/json";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).at("Content-Type")
    }

    /// 413.
    pub fn too_large(limit_bytes: usize) -> Problem {
        let detail = format!("the body is larger than {limit_bytes} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).closing_connection()
    }

    /// 503, asking for a retry.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after_seconds: u32) -> Problem {
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.retry_after_seconds = Some(retry_after_seconds);
        problem
    }

    /// Names the parameter, field or header at fault.
    pub fn at(mut self, parameter: impl Into<String>) -> Problem {
        self.parameter = Some(parameter.into());
        self
    }

    /// The parameter, field or header at fault.
    pub fn parameter(&self) -> Option<&str> {
        self.parameter.as_deref()
    }

    /// Adds the single reasons, for answers that can have several.
    pub fn with_reasons(mut self, reasons: Vec<Cow<'static, str>>) -> Problem {
        self.reasons = reasons;
        self
    }

    /// Ends the connection after the answer: what is left of the request is not worth reading.
    pub fn closing_connection(mut self) -> Problem {
        self.closes_connection = true;
        self
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error.kind() {
            ErrorKind::Refused => Problem::bad_request("the database refuses a value of the request"),
            ErrorKind::Contended => Problem::unavailable("the rows concerned are held by somebody else", 1),
            ErrorKind::ConnectionLost | ErrorKind::Unavailable => {
                tracing::warn!(cause = %error, "the database did not answer a request");
                Problem::unavailable("the database does not answer", 5)
            }
        }
    }
}

impl From<BatchError> for Problem {
    fn from(error: BatchError) -> Problem {
        match error {
            BatchError::Contended(_) => Problem::unavailable("the rows concerned are held by somebody else", 1),
            BatchError::Poison(_) => Problem::bad_request("the database refuses a value of the request"),
            BatchError::ConnectionLost(cause) | BatchError::Unavailable(cause) => {
                tracing::warn!(%cause, "the database did not answer a request");
                Problem::unavailable("the database does not answer", 5)
            }
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Problem {
        Problem::unavailable(error.to_string(), error.retry_after_seconds())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            parameter: self.parameter.as_deref(),
            reasons: &self.reasons,
        };
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(allow) = self.allow {
            response.insert_header((header::ALLOW, allow));
        }
        if self.asks_for_token {
            response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        if self.closes_connection {
            response.force_close();
        }
        response.body(serde_json::to_vec(&document).unwrap_or_default())
    }
}
