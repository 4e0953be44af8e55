//! A small Stripe on loopback, with the shapes of today's API: lists with pages, objects by id, deleted customers, and every
//! way in which a network or a provider fails. It answers from objects that the test puts in.

mod answers;
mod connection;

use std::cmp::Reverse;
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

/// What Stripe has.
#[derive(Default)]
pub struct Objects {
    by_id: BTreeMap<String, Value>,
    /// In the order of lists: newest first.
    by_type: BTreeMap<String, BTreeSet<Place>>,
    payment_methods: BTreeMap<String, BTreeSet<Place>>,
    /// Customers that were deleted: known by id alone.
    deleted: BTreeSet<String>,
    /// What lists leave out, although it is there.
    unlisted: BTreeSet<String>,
}

/// Where an object stands in a list.
type Place = (Reverse<i64>, Reverse<String>);

impl Objects {
    /// Puts an object in, in place of that of the same id.
    pub fn put(&mut self, object: Value) {
        let id = object["id"].as_str().unwrap().to_owned();
        self.remove(&id);
        let place = place_of(&object);
        if let Some(customer) = answers::is_payment_method(&object).then(|| answers::reference(&object["customer"])).flatten() {
            self.payment_methods.entry(customer.to_owned()).or_default().insert(place.clone());
        }
        self.by_type.entry(object["object"].as_str().unwrap().to_owned()).or_default().insert(place);
        self.by_id.insert(id, object);
    }

    pub fn remove(&mut self, id: &str) {
        let Some(object) = self.by_id.remove(id) else { return };
        let place = place_of(&object);
        let lists = self.by_type.values_mut().chain(self.payment_methods.values_mut());
        for list in lists {
            list.remove(&place);
        }
    }
}

fn place_of(object: &Value) -> Place {
    (Reverse(object["created"].as_i64().unwrap_or_default()), Reverse(object["id"].as_str().unwrap().to_owned()))
}

struct State {
    objects: Objects,
    clock: Clock,
    asked: Vec<Asked>,
    faults: VecDeque<Fault>,
    /// Faults of every request to a path.
    standing_faults: BTreeMap<String, Fault>,
    failing_from: Option<(usize, Fault)>,
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
            failing_from: None,
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
        objects.into_iter().for_each(|object| state.objects.put(object));
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
        state.objects.remove(id);
        if id.starts_with("cus_") {
            state.objects.deleted.insert(id.to_owned());
        }
    }

    /// Leaves an object out of every list; by id it is still there.
    pub fn leave_unlisted(&self, id: &str) {
        self.lock().objects.unlisted.insert(id.to_owned());
    }

    /// Has the next requests fail, one each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Has every request to that path fail.
    pub fn fail_always(&self, path: &str, fault: Fault) {
        self.lock().standing_faults.insert(path.to_owned(), fault);
    }

    /// Has every request fail, from that one on: the first is 1.
    pub fn fail_from(&self, number: usize, fault: Fault) {
        self.lock().failing_from = Some((number, fault));
    }

    /// Ends what [`FakeStripe::fail_always`] and [`FakeStripe::fail_from`] began.
    pub fn recover(&self) {
        let mut state = self.lock();
        state.standing_faults.clear();
        state.faults.clear();
        state.failing_from = None;
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
