//! Bad input in every parameter, of the path, of the query and of the body, as the description of the API lists them: what
//! cannot be read is refused by its name, and what can is only text, whatever it says.

use std::collections::BTreeMap;

use billsync::http::openapi::document;
use serde_json::{Map, Value, json};

use super::{Api, api};

/// What reads as SQL, as JSON, as a path or as a pattern to whoever does not bind it.
const HOSTILE: [&str; 8] = [
    "' or 1=1 --",
    "'; drop table users; --",
    "\" or \"\"=\"",
    "{\"$gt\": \"\"}",
    "[\"a\"]",
    "\\'%_$1",
    "../../../etc/passwd",
    "$$;select pg_sleep(9)",
];

/// An operation of the description.
struct Operation {
    method: String,
    path: String,
    parameters: Vec<Value>,
    /// The schema of the body's fields by name, and which of them there have to be.
    fields: BTreeMap<String, Schema>,
    required: Vec<String>,
}

/// What the description says of a value.
struct Schema {
    kind: String,
    nullable: bool,
    schema: Value,
}

impl Schema {
    fn new(document: &Value, schema: &Value) -> Schema {
        if let Some(reference) = schema["$ref"].as_str() {
            return Schema::new(document, document.pointer(reference.trim_start_matches('#')).unwrap());
        }
        if let Some(alternatives) = schema["oneOf"].as_array() {
            let (nulls, others): (Vec<&Value>, Vec<&Value>) = alternatives.iter().partition(|one| one["type"] == "null");
            let [other] = others[..] else { panic!("{schema} is not one thing or null") };
            return Schema { nullable: !nulls.is_empty(), ..Schema::new(document, other) };
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        let kind = kinds.iter().find(|kind| **kind != "null").unwrap_or_else(|| panic!("{schema} has no type"));
        Schema { kind: (*kind).to_owned(), nullable: kinds.contains(&"null"), schema: schema.clone() }
    }

    /// Whether any text without NUL will do.
    fn is_free_text(&self) -> bool {
        self.kind == "string" && self.schema["pattern"] == "^[^\\u0000]*$"
    }

    /// What is hostile and yet a text that the schema takes.
    fn hostile_texts(&self) -> impl Iterator<Item = &'static str> {
        let most = self.schema["maxLength"].as_u64().unwrap_or(u64::MAX);
        let is_free_text = self.is_free_text();
        HOSTILE.into_iter().filter(move |text| is_free_text && text.len() as u64 <= most)
    }

    /// Texts that the schema refuses.
    fn wrong_texts(&self) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        if self.is_free_text() {
            wrong.push("a\0b".to_owned());
            wrong.extend(self.schema["maxLength"].as_u64().map(|most| "ü".repeat(usize::try_from(most).unwrap() + 1)));
            wrong.extend(self.schema["minLength"].as_u64().map(|_| String::new()));
            return wrong;
        }
        wrong.extend(["", "nope", "\0"].map(str::to_owned));
        wrong.extend(HOSTILE.map(str::to_owned));
        if self.kind == "integer" {
            wrong.extend(["1.5", "0x1", "99999999999999999999"].map(str::to_owned));
            wrong.extend(self.schema["minimum"].as_i64().map(|least| (least - 1).to_string()));
            wrong.extend(self.schema["maximum"].as_i64().map(|most| (most + 1).to_string()));
        }
        wrong
    }

    /// Values that the schema refuses.
    fn wrong_values(&self) -> Vec<Value> {
        let mut wrong = vec![json!("x"), json!(true), json!(1), json!(1.5), json!([]), json!({"$ne": 1})];
        let is_of_kind = |value: &Value| match self.kind.as_str() {
            "string" => value.is_string(),
            "integer" => value == &json!(1),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value == &json!([]),
            _ => value.is_object(),
        };
        wrong.retain(|value| !is_of_kind(value));
        match self.kind.as_str() {
            "string" => wrong.extend(self.wrong_texts().into_iter().map(Value::from)),
            "object" => wrong.extend([json!({"a": "\0"}), json!({"a\0": {"sent_at": null}})]),
            "integer" | "number" => {
                wrong.extend([json!(i64::MAX), json!(1e300), json!(-1)]);
                wrong.extend(self.schema["maximum"].as_f64().map(|most| json!(most + 0.5)));
            }
            _ => {}
        }
        if !self.nullable {
            wrong.push(Value::Null);
        }
        wrong
    }

    /// A value that the schema takes.
    fn value(&self) -> Value {
        match self.kind.as_str() {
            "integer" => json!(1),
            "array" => json!([]),
            "string" => json!("a"),
            other => panic!("no required field is {other}"),
        }
    }
}

/// Every operation of the API.
fn operations() -> Vec<Operation> {
    let served = serde_json::to_value(document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in served["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let body = body.as_str().map(|name| &served["components"]["schemas"][name.rsplit('/').next().unwrap()]);
            let properties = body.and_then(|body| body["properties"].as_object()).cloned().unwrap_or_default();
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                parameters: operation["parameters"].as_array().cloned().unwrap_or_default(),
                fields: properties.iter().map(|(name, schema)| (name.clone(), Schema::new(&served, schema))).collect(),
                required: body.and_then(|body| serde_json::from_value(body["required"].clone()).ok()).unwrap_or_default(),
            });
        }
    }
    operations
}

/// An API with one of everything, and the path of each kind of thing.
async fn with_data() -> (Api, BTreeMap<String, String>) {
    let api = api().await;
    api.users(1, 3).await;
    api.link(1).await;
    api.bench.database.execute("update user_usage set plan_campaigns_limit = -1, plan_creators_limit = -1").await;
    let mut ids = BTreeMap::from([("clerk_id".to_owned(), "user_1".to_owned()), ("meter".to_owned(), "creators".to_owned())]);
    ids.insert("event_id".into(), "evt_cus_1".into());
    let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
    for (name, path) in [("campaigns", "/v1/campaigns"), ("jobs", "/v1/jobs"), ("lists", "/v1/lists")] {
        let made = api.write("POST", path, example(name)).await;
        ids.insert(name.to_owned(), id(&made));
    }
    let (job, list) = (ids["jobs"].clone(), ids["lists"].clone());
    let result = api.write("POST", &format!("/v1/jobs/{job}/results"), json!({"creators": [1]})).await;
    let item = json!({"platform": "p", "creator_handle": "h"});
    let item = api.write("POST", &format!("/v1/lists/{list}/items"), item).await;
    ids.extend([("results".into(), id(&result)), ("items".into(), id(&item)), ("job_id".into(), job), ("list_id".into(), list)]);
    (api, ids)
}

fn example(collection: &str) -> Value {
    match collection {
        "jobs" => json!({"user_id": "user_1", "keywords": ["yoga"], "search_params": {"mode": "exact"}, "platform": "tiktok"}),
        _ => json!({"user_id": "user_1", "name": "n"}),
    }
}

/// The path of something that exists, but for the parameter that is replaced.
fn path_of(operation: &Operation, ids: &BTreeMap<String, String>, replaced: Option<(&str, &str)>) -> String {
    let mut segments: Vec<String> = Vec::new();
    for segment in operation.path.split('/') {
        let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else {
            segments.push(segment.to_owned());
            continue;
        };
        let known = if name == "id" { &ids[segments.last().unwrap()] } else { &ids[name] };
        match replaced {
            Some((of, text)) if of == name => segments.push(encode(text)),
            _ => segments.push(known.clone()),
        }
    }
    segments.join("/")
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A body of the fields that there have to be.
fn body_of(operation: &Operation) -> Map<String, Value> {
    let value = |name: &String| if name == "user_id" { json!("user_1") } else { operation.fields[name].value() };
    operation.required.iter().map(|name| (name.clone(), value(name))).collect()
}

/// A 400 whose problem names that parameter, or something within it.
async fn assert_refused(api: &Api, method: &str, path: &str, body: &str, name: &str) {
    let answer = api.send(method, path, body).await;
    let detail = answer.problem(400);
    let named = answer.json()["parameter"].as_str().unwrap_or_default().to_owned();
    assert!(named.starts_with(name) && detail.contains(name), "{method} {path} {body} names {named:?}, not {name}: {detail}");
}

/// That nothing was lost.
async fn assert_unharmed(api: &Api) {
    assert_eq!(api.read("/v1/users").await["data"].as_array().unwrap().len(), 2);
    assert_eq!(api.read("/v1/users/user_2").await["email"], "ada2@example.com");
}

#[tokio::test]
async fn what_a_query_may_not_say_is_refused_by_name_and_the_rest_is_only_text() {
    let (api, ids) = with_data().await;
    let mut count = 0;
    for operation in operations() {
        let path = path_of(&operation, &ids, None);
        let queries: Vec<&Value> = operation.parameters.iter().filter(|parameter| parameter["in"] == "query").collect();
        for parameter in &queries {
            let (name, schema) = (parameter["name"].as_str().unwrap(), Schema::new(&Value::Null, &parameter["schema"]));
            for wrong in schema.wrong_texts() {
                let path = format!("{path}?{name}={}", encode(&wrong));
                assert_refused(&api, &operation.method, &path, "", name).await;
                count += 1;
            }
            assert_refused(&api, &operation.method, &format!("{path}?{name}=1&{name}=1"), "", name).await;
            for hostile in schema.hostile_texts() {
                let answer = api.send(&operation.method, &format!("{path}?{name}={}", encode(hostile)), "").await;
                assert_eq!((answer.status, &answer.json()["data"]), (200, &json!([])), "{path} {name} {hostile}");
            }
        }
        assert_refused(&api, &operation.method, &format!("{path}?no_such=1"), "", "no_such").await;
    }
    assert!(count > 400, "{count}");
    assert_unharmed(&api).await;
}

#[tokio::test]
async fn whatever_stands_in_a_path_is_nobodys() {
    let (api, ids) = with_data().await;
    let mut count = 0;
    for operation in operations() {
        let body = Value::Object(body_of(&operation)).to_string();
        for parameter in operation.parameters.iter().filter(|parameter| parameter["in"] == "path") {
            let name = parameter["name"].as_str().unwrap();
            let unknown = ["00000000-0000-0000-0000-000000000000", "a\0b", " ", "%", "\u{fffd}"];
            for text in HOSTILE.into_iter().chain(unknown) {
                let path = path_of(&operation, &ids, Some((name, text)));
                let answer = api.send(&operation.method, &path, &body).await;
                assert_eq!(answer.status, 404, "{} {path} ({text}): {answer:?}", operation.method);
                answer.problem(404);
                count += 1;
            }
        }
    }
    assert!(count > 300, "{count}");
    assert_unharmed(&api).await;
}

#[tokio::test]
async fn what_a_body_may_not_say_is_refused_by_name_and_the_rest_is_only_text() {
    let (api, ids) = with_data().await;
    let mut count = 0;
    for operation in operations().iter().filter(|operation| !operation.fields.is_empty()) {
        let (path, least) = (path_of(operation, &ids, None), body_of(operation));
        let with = |name: &str, value: Value| {
            let mut body = least.clone();
            body.insert(name.to_owned(), value);
            Value::Object(body).to_string()
        };
        for (name, schema) in &operation.fields {
            for wrong in schema.wrong_values() {
                assert_refused(&api, &operation.method, &path, &with(name, wrong), name).await;
                count += 1;
            }
            for hostile in schema.hostile_texts() {
                let answer = api.send(&operation.method, &path, &with(name, json!(hostile))).await;
                let kept = (200..300).contains(&answer.status) && answer.json().get(name).is_none_or(|kept| kept == hostile);
                // A key that both meters are given is in use at the second.
                assert!([404, 409].contains(&answer.status) || kept, "{} {path} {name} {hostile}: {answer:?}", operation.method);
            }
        }
        for name in &operation.required {
            let mut body = least.clone();
            body.remove(name);
            assert_refused(&api, &operation.method, &path, &Value::Object(body).to_string(), name).await;
        }
        assert_refused(&api, &operation.method, &path, &with("no_such", json!(1)), "no_such").await;
    }
    assert!(count > 400, "{count}");
    assert_unharmed(&api).await;
}
