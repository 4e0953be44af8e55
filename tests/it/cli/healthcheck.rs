//! `healthcheck`: what it says of a server that is well, of one whose database is away, and of what is no server of ours.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use super::{billsync, run, run_plain};
use crate::http::client::{CLERK_SECRET, STRIPE_SECRET};
use crate::support::database::{database, empty_database};
use crate::support::service::Service;
use crate::support::until;

fn asked(arguments: &[&str], exit: i32) -> Value {
    let (code, printed, complaints) = run_plain(&[&["healthcheck", "--json"], arguments].concat());
    assert_eq!((code, complaints.as_str()), (exit, ""), "{arguments:?}: {printed}");
    serde_json::from_str(&printed).unwrap()
}

#[tokio::test]
async fn a_server_without_its_database_is_alive_and_not_ready() {
    let (database, beside) = (database().await, empty_database().await);
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let url = format!("http://{}", service.address);
    for (flags, path) in [(&["--url", &url][..], "/healthz"), (&["--url", &url, "--ready"], "/readyz")] {
        let health = asked(flags, 0);
        assert_eq!((&health["healthy"], &health["status"]), (&Value::Bool(true), &Value::from(200)), "{health}");
        assert_eq!((&health["url"], &health["reasons"]), (&Value::from(format!("{url}{path}")), &Value::Array(Vec::new())));
    }
    let (code, printed, _) = run_plain(&["healthcheck", "--url", &format!("{url}/webhooks/stripe"), "--ready"]);
    assert!(code == 0 && printed.starts_with(&format!("{url}/readyz: ready (")), "{printed}");

    let others = format!(
        "alter database {0} allow_connections false; select pg_terminate_backend(pid) from pg_stat_activity where datname = '{0}' \
         and pid <> pg_backend_pid()",
        database.name
    );
    beside.execute(&others).await;
    until("the server misses its database", async || run_plain(&["healthcheck", "--url", &url, "--ready"]).0 == 1).await;
    let health = asked(&["--url", &url, "--ready"], 1);
    assert_eq!((&health["healthy"], &health["status"]), (&Value::Bool(false), &Value::from(503)), "{health}");
    assert!(
        health["reasons"].as_array().unwrap().iter().any(|reason| reason.as_str().unwrap().contains("the database")),
        "{health}"
    );
    let (code, printed, _) = run_plain(&["healthcheck", "--url", &url, "--ready"]);
    assert!(code == 1 && printed.starts_with(&format!("{url}/readyz: not ready, 503: ")), "{printed}");
    assert_eq!(asked(&["--url", &url], 0)["healthy"], true, "a restart would not bring the database back");
}

#[test]
fn nobody_a_stranger_and_a_server_that_hangs_are_not_well() {
    let (code, printed, complaints) = run_plain(&["healthcheck", "--url", "http://me:hunter2@127.0.0.1:1"]);
    assert_eq!((code, complaints.as_str()), (1, ""), "{printed}");
    assert!(printed.starts_with("http://127.0.0.1:1/healthz: no answer: ") && printed.contains("refused"), "{printed}");

    // By its queue it accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let health = asked(&["--url", &url, "--timeout", "0.2"], 1);
    assert_eq!((&health["status"], &health["reasons"][0]), (&Value::Null, &Value::from("no answer within 0.2 s")), "{health}");

    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", stranger.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        for body in ["<html>", "{\"alive\":false,\"detail\":\"\\u001b[31mill\"}"] {
            let (mut stream, _) = stranger.accept().unwrap();
            let mut request = [0; 4096];
            let _begun = stream.read(&mut request).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    assert_eq!(asked(&["--url", &url], 1)["reasons"][0], "what answers there with 200 is not billsync");
    assert_eq!(asked(&["--url", &url], 1)["reasons"][0], "[31mill");
    answering.join().unwrap();
}

#[tokio::test]
async fn the_image_asks_the_server_that_it_starts() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile")).unwrap();
    let (_, check) = text.split_once("HEALTHCHECK").unwrap();
    let check: Vec<&str> =
        check.lines().map(|line| line.trim().trim_end_matches('\\').trim()).take_while(|line| !line.is_empty()).collect();
    let (flags, command) = check.join(" ").split_once("CMD ").map(|(flags, rest)| (flags.to_owned(), rest.to_owned())).unwrap();
    let words: Vec<String> = serde_json::from_str(command.split_inclusive(']').next().unwrap()).unwrap();
    assert_eq!(words[0], "billsync");
    let seconds = |flag: &str| {
        let (_, value) = flags.split_once(&format!("{flag}=")).unwrap_or_else(|| panic!("no {flag} in {flags}"));
        value.split('s').next().unwrap().parse::<f64>().unwrap()
    };
    let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let patience: f64 =
        arguments.iter().skip_while(|word| **word != "--timeout").nth(1).map_or(4.0, |word| word.parse().unwrap());
    assert!(patience < seconds("--timeout") && seconds("--timeout") < seconds("--interval"), "it says why before it is killed");

    let database = database().await;
    let service = Service::start(&[("DATABASE_URL", &database.url)]).await;
    let everywhere = format!("0.0.0.0:{}", service.address.port());
    let asked = |listen: &str| {
        let mut command = billsync(&arguments);
        command.env("BILLSYNC_LISTEN", listen).env("DATABASE_URL", &database.url);
        run(command.env("STRIPE_WEBHOOK_SECRETS", STRIPE_SECRET).env("CLERK_WEBHOOK_SECRETS", CLERK_SECRET))
    };
    let (code, printed, complaints) = asked(&everywhere);
    assert_eq!(code, 0, "{printed}{complaints}");
    drop(service);
    let (code, printed, complaints) = asked(&everywhere);
    assert_eq!(code, 1, "{printed}{complaints}");
}
