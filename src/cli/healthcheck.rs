//! `billsync healthcheck`: asks a running server how it is, for whoever starts and restarts it. Needs no other program, so that
//! an image of billsync alone can be watched.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use crate::cli::Exit;
use crate::cli::arguments::positive;
use crate::cli::failure::{WrongUse, causes_once};
use crate::cli::output::{print, print_json};
use crate::cli::server_address::ServerAddress;
use crate::config::Config;

/// Ask a running server whether it is alive, or whether events get through
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  billsync healthcheck\n  billsync healthcheck --ready --json\n  \
    billsync healthcheck --url http://127.0.0.1:8787 --timeout 2\n\n\
    Without --url the server on this machine that BILLSYNC_LISTEN names. It serves only once its database is reached and\n\
    migrated; from then on /healthz says that the process answers, and a restart helps when it does not. With --ready it is\n\
    /readyz: also red while the database is away, which no restart mends.\n\
    Exit code 1 when the server is not well or does not answer.")]
pub struct HealthcheckCommand {
    /// The server's address
    #[arg(long, value_name = "URL", value_parser = ServerAddress::parse)]
    url: Option<ServerAddress>,
    /// Ask whether events get through, not only whether the process answers
    #[arg(long)]
    ready: bool,
    /// How long an answer may take
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = positive)]
    timeout: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a server is.
#[derive(Debug, PartialEq, Serialize)]
struct Health {
    healthy: bool,
    url: String,
    /// Of the answer, if there was one.
    status: Option<u16>,
    /// Why it is not well.
    reasons: Vec<String>,
    milliseconds: u64,
}

/// What `/healthz` and `/readyz` answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    alive: bool,
    ready: bool,
    detail: Option<String>,
    reasons: Vec<String>,
}

impl HealthcheckCommand {
    /// Asks once, and tells.
    pub async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let server = match &self.url {
            Some(server) => server.clone(),
            None => listening(&config.listen)?,
        };
        let health = self.ask(&server).await?;
        if self.json {
            print_json(&health)?
        } else {
            print(&self.sentence(&health))?
        }
        Ok(if health.healthy { Exit::Success } else { Exit::Failure })
    }

    async fn ask(&self, server: &ServerAddress) -> anyhow::Result<Health> {
        let path = if self.ready { "readyz" } else { "healthz" };
        let client = server.client(Duration::from_secs_f64(self.timeout))?;
        let begun = Instant::now();
        let answer = async {
            let response = client.get(server.join(path)?).send().await?;
            anyhow::Ok((response.status(), response.bytes().await?))
        };
        let (status, reasons) = match answer.await {
            Ok((status, body)) => (Some(status.as_u16()), self.reasons(status, &body)),
            Err(error) => (None, vec![self.no_answer(error)]),
        };
        let milliseconds = begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        Ok(Health { healthy: reasons.is_empty(), url: format!("{server}{path}"), status, reasons, milliseconds })
    }

    /// Why the server is not well, by its answer; nothing when it is.
    fn reasons(&self, status: StatusCode, body: &[u8]) -> Vec<String> {
        let answer = serde_json::from_slice::<Answer>(body).unwrap_or_default();
        if status == StatusCode::OK && if self.ready { answer.ready } else { answer.alive } {
            return Vec::new();
        }
        let told = if answer.reasons.is_empty() { answer.detail.into_iter().collect() } else { answer.reasons };
        if told.is_empty() {
            return vec![format!("what answers there with {} is not billsync", status.as_u16())];
        }
        // They are printed on a terminal.
        told.into_iter().map(|reason| reason.chars().filter(|c| !c.is_control()).collect()).collect()
    }

    fn no_answer(&self, error: anyhow::Error) -> String {
        match error.downcast::<reqwest::Error>() {
            Ok(error) if error.is_timeout() => format!("no answer within {} s", self.timeout),
            // The address is told beside it.
            Ok(error) => format!("no answer: {}", causes_once(&error.without_url().into())),
            Err(error) => format!("no answer: {}", causes_once(&error)),
        }
    }

    fn sentence(&self, health: &Health) -> String {
        let word = if self.ready { "ready" } else { "alive" };
        let Health { url, milliseconds, .. } = health;
        match (health.healthy, health.status) {
            (true, _) => format!("{url}: {word} ({milliseconds} ms)"),
            (false, Some(status)) => format!("{url}: not {word}, {status}: {}", health.reasons.join(", ")),
            (false, None) => format!("{url}: {}", health.reasons.join(", ")),
        }
    }
}

/// How the server on this machine that listens there is reached from here.
fn listening(listen: &str) -> Result<ServerAddress, WrongUse> {
    let give = |why: &str| WrongUse(format!("BILLSYNC_LISTEN {why}: give the server's address with --url"));
    let (host, port) = listen.rsplit_once(':').ok_or_else(|| give("names no port"))?;
    if port.parse() == Ok(0_u16) {
        return Err(give("names port 0, which is any that is free"));
    }
    let host = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        // Every address of this machine, and so the one that never leaves it.
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1",
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "[::1]",
        _ => host,
    };
    ServerAddress::parse(&format!("http://{host}:{port}")).map_err(|_no_url| give("is no address that a client could use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        for (listen, asked) in [
            ("127.0.0.1:8787", "http://127.0.0.1:8787/"),
            ("0.0.0.0:8787", "http://127.0.0.1:8787/"),
            ("[::]:80", "http://[::1]/"),
            ("10.0.0.7:9000", "http://10.0.0.7:9000/"),
            ("localhost:8787", "http://localhost:8787/"),
        ] {
            assert_eq!(listening(listen).expect("an address").to_string(), asked, "{listen}");
        }
        for wrong in ["127.0.0.1:0", "127.0.0.1", "a b:8787"] {
            assert!(listening(wrong).is_err_and(|error| error.to_string().contains("--url")), "{wrong}");
        }
    }
}
