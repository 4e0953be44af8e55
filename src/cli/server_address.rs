//! The address of a running server, as the command line gives it, and the HTTP client that reaches it.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};

/// Where a server is: ends in a slash, and everything that it serves stands below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress(Url);

impl ServerAddress {
    /// Reads an address, of which a webhook's own path may be part.
    pub fn parse(text: &str) -> Result<ServerAddress, String> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let mut url = url.ok_or("is no address of a server, such as http://127.0.0.1:8787")?;
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/webhooks/stripe").or_else(|| path.strip_suffix("/webhooks/clerk")).unwrap_or(path);
        let path = format!("{path}/");
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        Ok(ServerAddress(url))
    }

    /// The address of a path on that server.
    pub fn join(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.0.join(path)?)
    }

    /// Whether that is this machine.
    pub fn is_local(&self) -> bool {
        self.0.host_str().is_some_and(is_loopback)
    }

    /// A client for this server, which follows it nowhere else and waits so long for an answer.
    pub fn client(&self, answer_timeout: Duration) -> anyhow::Result<Client> {
        let mut builder = Client::builder().timeout(answer_timeout).redirect(reqwest::redirect::Policy::none());
        if self.is_local() {
            // What is sent to this machine is nothing for a proxy.
            builder = builder.no_proxy();
        }
        if self.0.scheme() == "https" {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            builder =
                builder.tls_backend_preconfigured(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        }
        builder.build().context("the HTTP client cannot be made")
    }
}

/// For people: without what an address may hold of a user's name and password.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // An address without a host is none.
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        write!(f, "{shown}")
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_name_the_route_or_a_prefix() {
        for (given, base) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787/"),
            ("http://h/webhooks/stripe", "http://h/"),
            ("https://h/billing/webhooks/clerk/", "https://h/billing/"),
            ("https://h/billing?x=1#y", "https://h/billing/"),
            ("http://me:secret@h", "http://h/"),
        ] {
            assert_eq!(ServerAddress::parse(given).expect("an address").to_string(), base, "{given}");
        }
        for wrong in ["", "127.0.0.1:8787", "ftp://h", "http://", "postgres://h"] {
            assert!(ServerAddress::parse(wrong).is_err(), "{wrong}");
        }
        assert!(is_loopback("127.0.0.1") && is_loopback("[::1]") && is_loopback("localhost") && !is_loopback("example.com"));
    }
}
