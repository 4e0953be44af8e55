//! Decode and fold on one core: events a second over the stories' bodies, and what one more event costs a customer that
//! has few or many invoices, payment methods or contenders (flat times: nothing quadratic). `cargo bench --bench fold`

use std::hint::black_box;
use std::path::{Path, PathBuf};

use billsync::domain::billing::accounts::{Accounts, Context};
use billsync::domain::billing::plan::Catalog;
use billsync::domain::event::{Event, Source};
use billsync::domain::rules::Rules;
use billsync::domain::signature::VerifiedBody;
use billsync::domain::{clerk, stripe};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A body with the name that stands in for a Clerk delivery's id, and whether it is Clerk's.
struct Body {
    name: String,
    is_clerk: bool,
    body: VerifiedBody,
}

impl Body {
    fn new(name: String, value: &Value) -> Body {
        let body = VerifiedBody::from_operator(Bytes::from(value.to_string()));
        Body { name, is_clerk: value.get("instance_id").is_some(), body }
    }

    fn decode(&self, rules: &Rules) -> Option<Event> {
        if self.is_clerk {
            clerk::decode_event(&self.body, &self.name, Source::Webhook, rules).ok()
        } else {
            stripe::decode_event(&self.body, Source::Webhook, rules).ok()
        }
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap_or_default()
}

fn sorted(path: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Every story's bodies, compact as the providers send them over the wire.
fn stories() -> Vec<Vec<Body>> {
    let journeys = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journeys");
    let read = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let is_event = name.ends_with(".json") && name != "expected.json";
        let value = is_event.then(|| std::fs::read(path).ok()).flatten()?;
        Some(Body::new(name, &serde_json::from_slice(&value).ok()?))
    };
    let folders = sorted(&journeys).into_iter().filter(|path| path.is_dir());
    folders.map(|folder| sorted(&folder).into_iter().filter_map(read).collect()).collect()
}

fn decode_and_fold(criterion: &mut Criterion) {
    let (rules, catalog, stories) = (Rules::default(), Catalog::default(), stories());
    let count: usize = stories.iter().map(Vec::len).sum();
    let bytes: usize = stories.iter().flatten().map(|body| body.body.bytes().len()).sum();
    let mut group = criterion.benchmark_group(format!("stories ({count} events, {} bytes each)", bytes / count.max(1)));
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("decode and fold", |bencher| {
        bencher.iter(|| {
            for story in &stories {
                let mut accounts = Accounts::default();
                for event in story.iter().filter_map(|body| body.decode(&rules)) {
                    black_box(accounts.apply(&event, Context { catalog: &catalog, rules: &rules, now: now() }));
                }
            }
        });
    });
    group.bench_function("decode alone", |bencher| {
        bencher.iter(|| stories.iter().flatten().for_each(|body| drop(black_box(body.decode(&rules)))));
    });
    group.finish();
}

/// The nth object of a customer that has many.
fn nth(kind: &str, n: i64) -> Body {
    let (created, second) = (1_780_000_000 + n, 1_780_000_000);
    let (event_type, created, object, previous) = match kind {
        "invoices" => {
            let lines = json!({"data": [{"subscription": "sub_1", "period": {"start": created, "end": created + 1}}]});
            let object = json!({
                "id": format!("in_{n}"), "object": "invoice", "customer": "cus_1", "status": "paid", "subscription": "sub_1",
                "created": created, "lines": lines, "status_transitions": {"paid_at": created},
            });
            ("invoice.paid", created, object, Value::Null)
        }
        "payment methods" => {
            let card = json!({"brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2030});
            let object = json!({
                "id": format!("pm_{n}"), "object": "payment_method", "type": "card", "customer": "cus_1", "card": card,
                "created": created,
            });
            ("payment_method.attached", created, object, Value::Null)
        }
        _ => {
            let metadata = json!({"clerk_user_id": "user_1"});
            let object = json!({"id": "cus_1", "object": "customer", "created": 1, "balance": n, "metadata": metadata});
            ("customer.updated", second, object, json!({"balance": n - 1}))
        }
    };
    let data = json!({"object": object, "previous_attributes": previous});
    let id = format!("evt_{n:09}");
    let body = json!({"id": id, "object": "event", "type": event_type, "created": created, "livemode": false, "data": data});
    Body::new(id, &body)
}

fn one_more(criterion: &mut Criterion) {
    let (rules, catalog) = (Rules::default(), Catalog::default());
    let context = Context { catalog: &catalog, rules: &rules, now: now() };
    for kind in ["invoices", "payment methods", "contenders"] {
        let mut group = criterion.benchmark_group(format!("one more among {kind}"));
        for size in [10, 100, 1_000, 10_000] {
            let mut accounts = Accounts::default();
            for event in (0..size).filter_map(|n| nth(kind, n).decode(&rules)) {
                accounts.apply(&event, context);
            }
            let event = nth(kind, size).decode(&rules);
            group.bench_with_input(BenchmarkId::from_parameter(size), &size, |bencher, _| {
                let one = |accounts: &mut Accounts| event.as_ref().map(|event| accounts.apply(event, context));
                bencher.iter_batched_ref(|| accounts.clone(), one, BatchSize::LargeInput);
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decode_and_fold, one_more);
criterion_main!(benches);
