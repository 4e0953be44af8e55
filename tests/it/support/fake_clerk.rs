//! A Clerk API on loopback: users by id and by page, over real HTTP, with the mishaps that a test asks for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const KEY: &str = "sk_test_clerk_hunter2";

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// An answer of that status, with further header lines.
    Status(u16, &'static str),
    /// Closed without an answer.
    Cut,
    /// Half an answer.
    Half,
    /// No answer while the client waits.
    Silent,
}

#[derive(Debug, Default)]
struct State {
    users: Vec<Value>,
    /// What users have subscribed to, by the user's id.
    billing: BTreeMap<String, Value>,
    /// Pages from that offset on are never answered.
    silent_from: Option<usize>,
    mishaps: VecDeque<Mishap>,
    requests: Vec<String>,
    /// Deleted after that many further pages.
    deletions: Vec<(usize, String)>,
}

/// A running fake; ends with the test's runtime.
#[derive(Clone, Debug)]
pub struct FakeClerk {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeClerk {
    pub async fn start() -> FakeClerk {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = FakeClerk { address: listener.local_addr().unwrap(), state: Arc::default() };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = serving.clone();
                tokio::spawn(async move { fake.serve(stream).await });
            }
        });
        fake
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a user, or replaces the one of the same id.
    pub fn put(&self, user: Value) {
        let mut state = self.state();
        state.users.retain(|known| known["id"] != user["id"]);
        state.users.push(user);
    }

    /// What a user has subscribed to, as the API gives it.
    pub fn put_billing(&self, user_id: &str, subscription: Value) {
        self.state().billing.insert(user_id.to_owned(), subscription);
    }

    /// Takes a user away.
    pub fn remove(&self, id: &str) {
        self.state().users.retain(|user| user["id"] != id);
    }

    /// Pages of users from that offset on are not answered, until it is taken back with `None`.
    pub fn be_silent_from(&self, offset: Option<usize>) {
        self.state().silent_from = offset;
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.state().requests.clear();
    }

    /// The next requests go wrong like this, in turn.
    pub fn go_wrong(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.state().mishaps.extend(mishaps);
    }

    /// The user disappears after that many further pages were given out.
    pub fn delete_after_pages(&self, pages: usize, id: &str) {
        self.state().deletions.push((pages, id.to_owned()));
    }

    /// The ids of those who are left.
    pub fn user_ids(&self) -> BTreeSet<String> {
        self.state().users.iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Paths with queries, as they came.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => request.extend_from_slice(&buffer[..read]),
            }
        }
        let request = String::from_utf8(request).unwrap();
        let target = request.split(' ').nth(1).unwrap().to_owned();
        let mishap = {
            let mut state = self.state();
            state.requests.push(target.clone());
            state.mishaps.pop_front()
        };
        let authorised = request.lines().any(|line| line.eq_ignore_ascii_case(&format!("authorization: bearer {KEY}")));
        if self.is_silent_about(&target) {
            return std::future::pending().await;
        }
        let (status, body) = if authorised { self.answer(&target) } else { refusal(401, "clerk_key_invalid") };
        let (status, headers) = match mishap {
            Some(Mishap::Cut) => return,
            Some(Mishap::Silent) => return std::future::pending().await,
            Some(Mishap::Status(status, headers)) => (status, headers),
            Some(Mishap::Half) | None => (status, ""),
        };
        let told_off = matches!(mishap, Some(Mishap::Status(..)));
        let body = if told_off { refusal(status, "some_code").1.to_string() } else { body.to_string() };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
        let sent = if matches!(mishap, Some(Mishap::Half)) { &body[..body.len() / 2] } else { &body };
        let _client_gone = stream.write_all(format!("{head}{sent}").as_bytes()).await;
    }

    fn is_silent_about(&self, target: &str) -> bool {
        let offset = target.split(['?', '&']).find_map(|part| part.strip_prefix("offset="));
        let offset = offset.map(|text| text.parse::<usize>().unwrap());
        self.state().silent_from.is_some_and(|from| offset.is_some_and(|offset| offset >= from))
    }

    fn answer(&self, target: &str) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut state = self.state();
        if let Some(user) = path.strip_prefix("/v1/users/").and_then(|rest| rest.strip_suffix("/billing/subscription")) {
            let found = state.billing.get(user);
            return found.map_or_else(|| refusal(404, "resource_not_found"), |subscription| (200, subscription.clone()));
        }
        if path == "/v1/users/count" {
            return (200, json!({"object": "total_count", "total_count": state.users.len()}));
        }
        if let Some(id) = path.strip_prefix("/v1/users/") {
            let found = state.users.iter().find(|user| user["id"] == id);
            return found.map_or_else(|| refusal(404, "resource_not_found"), |user| (200, user.clone()));
        }
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let number = |name: &str, default| parameter(name).map_or(default, |text| text.parse::<usize>().unwrap());
        assert_eq!(path, "/v1/users");
        let mut users = state.users.clone();
        users.sort_by_key(|user| user["created_at"].as_i64().unwrap());
        let wanted: Vec<&str> = query.split('&').filter_map(|pair| pair.strip_prefix("user_id=")).collect();
        users.retain(|user| wanted.is_empty() || wanted.iter().any(|id| user["id"] == **id));
        let made_after = parameter("created_at_after").map_or(i64::MIN, |text| text.parse().unwrap());
        users.retain(|user| user["created_at"].as_i64().unwrap() > made_after);
        if parameter("order_by").as_deref() != Some("%2Bcreated_at") {
            users.reverse();
        }
        let page: Vec<Value> = users.into_iter().skip(number("offset", 0)).take(number("limit", 10)).collect();
        let due: Vec<String> = state.deletions.iter().filter(|(pages, _)| *pages <= 1).map(|(_, id)| id.clone()).collect();
        state.deletions.retain_mut(|(pages, _)| {
            *pages = pages.saturating_sub(1);
            *pages > 0
        });
        state.users.retain(|user| !due.iter().any(|id| user["id"] == **id));
        (200, json!(page))
    }
}

fn refusal(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"errors": [{"message": "a message with hunter2", "long_message": "hunter2", "code": code}]}))
}

/// The Clerk user `user_<number>` as the API gives it.
pub fn clerk_user(number: u32, updated_at: DateTime<Utc>) -> Value {
    let (id, address) = (format!("user_{number}"), format!("idn_{number}"));
    let made_at = 1_772_000_000_000_i64 + i64::from(number);
    json!({"id": id, "object": "user", "first_name": "Ada", "last_name": format!("No. {number}"),
        "primary_email_address_id": address,
        "email_addresses": [{"id": address, "object": "email_address", "email_address": format!("{id}@example.com"),
            "verification": {"status": "verified"}}],
        "private_metadata": {}, "public_metadata": {}, "unsafe_metadata": {},
        "created_at": made_at, "updated_at": updated_at.timestamp_millis(), "last_active_at": updated_at.timestamp_millis()})
}
