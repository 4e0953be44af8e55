//! `billsync openapi`: the description of the API.

use clap::Args;

use crate::cli::Exit;
use crate::cli::output::print_json;
use crate::http::openapi::document;

/// Print the description of the HTTP API, as OpenAPI 3.1 in JSON
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync openapi > openapi.json")]
pub struct OpenapiCommand {}

impl OpenapiCommand {
    /// Prints the document.
    pub fn run(&self) -> anyhow::Result<Exit> {
        print_json(&document())?;
        Ok(Exit::Success)
    }
}
