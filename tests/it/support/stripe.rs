//! A small Stripe on loopback, with the shapes of today's API: lists with pages, objects by id, deleted customers, and every
//! way in which a network or a provider fails. It answers from objects that the test puts in.

mod answers;
mod connection;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use billsync::clock::Clock;
use billsync::config::Secret;
use billsync::domain::billing::accounts::Accounts;
use billsync::domain::event::Provider;
use billsync::stripe_api::{Options, StripeApi};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the fake accepts as a key.
pub const API_KEY: &str = "rk_test_51FakeKeyThatMustNeverBePrinted";

/// A running fake; it ends when dropped.
pub struct FakeStripe {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<()>,
}

/// How the next request fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error status, with these further header lines.
    Status(u16, &'static str),
    /// The connection is closed without an answer.
    Cut,
    /// The connection is closed in the middle of the answer.
    CutInTheMiddle,
    /// No answer, ever.
    Silence,
    /// 200, and no JSON.
    Garbage,
}

/// A request that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `/v1/…`, without the query.
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// The connection that it came by.
    pub connection: usize,
}

type Hook = Box<dyn FnMut(&Asked, &mut Objects) + Send>;

/// What Stripe has, by id.
#[derive(Default)]
pub struct Objects {
    pub by_id: BTreeMap<String, Value>,
    /// Customers that were deleted: known by id alone.
    pub deleted: BTreeSet<String>,
}

struct State {
    objects: Objects,
    clock: Clock,
    asked: Vec<Asked>,
    faults: VecDeque<Fault>,
    /// Faults of every request to a path.
    standing_faults: BTreeMap<String, Fault>,
    /// Called after every request, before its answer is made.
    hook: Option<Hook>,
    connections: usize,
}

impl FakeStripe {
    /// Starts with nothing in it. Its `Date` is that clock's.
    pub async fn start(clock: Clock) -> FakeStripe {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            objects: Objects::default(),
            clock,
            asked: Vec::new(),
            faults: VecDeque::new(),
            standing_faults: BTreeMap::new(),
            hook: None,
            connections: 0,
        }));
        let listening = tokio::spawn(connection::accept(listener, Arc::clone(&state)));
        FakeStripe { address, state, listening }
    }

    /// `http://127.0.0.1:…`
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it that is in no hurry to give up, but in a hurry.
    pub fn api(&self, clock: Clock) -> StripeApi {
        self.api_with(clock, self.options())
    }

    /// Options under which a test does not wait for anything.
    pub fn options(&self) -> Options {
        Options {
            base: self.base(),
            requests_per_second: 100_000,
            backoff: std::time::Duration::from_millis(2),
            longest_backoff: std::time::Duration::from_millis(20),
            ..Options::default()
        }
    }

    pub fn api_with(&self, clock: Clock, options: Options) -> StripeApi {
        StripeApi::new(&Secret::new(API_KEY), options, clock).unwrap()
    }

    /// Puts objects in, in place of those of the same id.
    pub fn put(&self, objects: impl IntoIterator<Item = Value>) {
        let mut state = self.lock();
        for object in objects {
            let id = object["id"].as_str().unwrap().to_owned();
            state.objects.by_id.insert(id, object);
        }
    }

    /// Puts in what Stripe would have at the end of a story: the newest snapshot of every object.
    pub fn put_state_of(&self, accounts: Accounts) {
        for object in accounts.into_loaded().objects {
            let is_ours = object.key.provider == Provider::Stripe && object.key.account.is_empty();
            let Some(text) = object.winner.and_then(|winner| winner.object).filter(|_| is_ours) else { continue };
            if object.deleted_at.is_some() && object.object_type != "subscription" {
                self.delete(&object.key.object_id);
            } else {
                self.put([serde_json::from_str(&text).unwrap()]);
            }
        }
    }

    /// Deletes an object; of a customer a stub stays.
    pub fn delete(&self, id: &str) {
        let mut state = self.lock();
        state.objects.by_id.remove(id);
        if id.starts_with("cus_") {
            state.objects.deleted.insert(id.to_owned());
        }
    }

    /// Changes an object.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        change(self.lock().objects.by_id.get_mut(id).unwrap());
    }

    /// Has the next requests fail, one each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Has every request to that path fail.
    pub fn fail_always(&self, path: &str, fault: Fault) {
        self.lock().standing_faults.insert(path.to_owned(), fault);
    }

    /// Ends what [`FakeStripe::fail_always`] began.
    pub fn recover(&self) {
        let mut state = self.lock();
        state.standing_faults.clear();
        state.faults.clear();
    }

    /// Has something happen whenever a request has come, before it is answered.
    pub fn on_request(&self, hook: impl FnMut(&Asked, &mut Objects) + Send + 'static) {
        self.lock().hook = Some(Box::new(hook));
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// Forgets the requests so far; returns how many there were.
    pub fn forget_asked(&self) -> usize {
        std::mem::take(&mut self.lock().asked).len()
    }

    /// Requests to a path.
    pub fn count(&self, path: &str) -> usize {
        self.lock().asked.iter().filter(|asked| asked.path == path).count()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for FakeStripe {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
