//! Whether the collector takes traces.

use crate::cli::doctor::finding::Findings;
use crate::config::Config;
use crate::telemetry;

/// Sends it no span at all, which is answered as if it were one.
pub async fn check(config: &Config, findings: &mut Findings) {
    let Some(endpoint) = &config.otlp_endpoint else {
        // One that cannot be read has been told.
        if !config.is_given("OTEL_EXPORTER_OTLP_ENDPOINT") {
            findings.ok("traces", "OTEL_EXPORTER_OTLP_ENDPOINT is not set: no traces are sent");
        }
        return;
    };
    match telemetry::ask(endpoint).await {
        Ok(()) => findings.ok("traces", "the collector takes traces"),
        Err(error) => findings.warn(
            "traces",
            format!("the collector takes no traces, so that they are dropped: {error}"),
            "unset OTEL_EXPORTER_OTLP_ENDPOINT   # or give it the base address of a collector that takes OTLP over HTTP, of port 4318 as a rule",
        ),
    }
}
