//! Why Clerk's API gave no answer that can be used. Nothing here holds the key or a user's values.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Why a request came to nothing. Only [`ClerkApiError::Unavailable`] can go away by itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClerkApiError {
    #[error("Clerk does not accept CLERK_SECRET_KEY (401{0}): take the secret key from the Dashboard under API keys")]
    Unauthorized(Code),
    #[error("Clerk does not allow this to CLERK_SECRET_KEY (403{0}): it needs to read users of this instance")]
    Forbidden(Code),
    #[error("Clerk knows no such thing (404{0}): is it the key of the right instance?")]
    NotFound(Code),
    #[error("Clerk refused the request ({status}{code})")]
    Refused { status: u16, code: Code },
    #[error("Clerk {cause}; tried {attempts} times")]
    Unavailable { cause: String, attempts: u32 },
    #[error("Clerk asks to wait for {} seconds; try again later", .0.as_secs())]
    AskedToWait(Duration),
    #[error("cannot read Clerk's answer: {0}")]
    Unreadable(&'static str),
    #[error("{0:?} cannot be the id of a Clerk user")]
    NotAnId(String),
    #[error("{0}")]
    Unusable(&'static str),
}

/// The code of an error that Clerk names, such as `clerk_key_invalid`; its messages may hold anything and are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code(Option<String>);

impl Code {
    /// Reads the code off the body of an answer, if it is one.
    pub(super) fn of(body: &str) -> Code {
        let body: Option<serde_json::Value> = serde_json::from_str(body).ok();
        let code = body.as_ref().and_then(|body| body.pointer("/errors/0/code")).and_then(serde_json::Value::as_str);
        let is_code = |code: &&str| code.len() <= 80 && code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        Code(code.filter(is_code).map(str::to_owned))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(code) => write!(f, ", {code}"),
            None => Ok(()),
        }
    }
}
