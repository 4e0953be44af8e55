//! Events as if they were new: times moved to now, ids that nobody has seen. Only what looks like a time or an id of a
//! provider is touched; prices, products and plans keep their ids, by which the catalog knows them.

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::cli::demo::deliver::new_run;
use crate::cli::send::selection::Outgoing;
use crate::domain::event::Provider;

/// What the ids of events, and of objects that belong to one user, begin with.
const OWN_PREFIXES: &[&str] = &[
    "evt_",
    "cus_",
    "sub_",
    "si_",
    "sub_sched_",
    "in_",
    "il_",
    "ii_",
    "pm_",
    "pi_",
    "cs_",
    "ch_",
    "py_",
    "card_",
    "src_",
    "seti_",
    "txn_",
    "re_",
    "dp_",
    "di_",
    "user_",
    "idn_",
    "idw_",
    "sess_",
    "csub_",
    "csubi_",
    "csubitem_",
    "cpay_",
    "cpayatt_",
    "cpm_",
    "commerce_",
    "msg_",
    "clock_",
    "prom_",
];
/// Whole seconds from 2001 to 2096, and the same in milliseconds.
const SECONDS: std::ops::Range<i64> = 1_000_000_000..4_000_000_000;
const MILLISECONDS: std::ops::Range<i64> = 1_000_000_000_000..4_000_000_000_000;

/// Rewrites the bodies. With `now`, times are moved by one and the same amount, so that the newest event happened then.
pub fn freshen(outgoing: &mut [Outgoing], ids: bool, now: Option<DateTime<Utc>>) -> anyhow::Result<()> {
    let mut bodies = Vec::new();
    for one in outgoing.iter() {
        bodies.push(serde_json::from_slice::<Value>(&one.webhook.body).with_context(|| one.at.clone())?);
    }
    let newest = outgoing.iter().zip(&bodies).filter_map(|(one, body)| happened_at(one.provider, body)).max();
    let seconds = now.zip(newest).map_or(0, |(now, newest)| now.timestamp() - newest);
    let run = new_run();
    let change = Change { seconds, run: ids.then_some(run.as_str()) };
    for (one, mut body) in outgoing.iter_mut().zip(bodies) {
        change.apply(&mut body, None);
        one.webhook.body = serde_json::to_vec(&body)?.into();
        if let (Some(id), true) = (&mut one.webhook.message_id, ids) {
            id.push('_');
            id.push_str(&run);
        }
    }
    Ok(())
}

/// In seconds.
fn happened_at(provider: Provider, body: &Value) -> Option<i64> {
    match provider {
        Provider::Clerk => body.get("timestamp")?.as_i64().map(|at| if MILLISECONDS.contains(&at) { at / 1000 } else { at }),
        Provider::Stripe | Provider::Import => body.get("created")?.as_i64(),
    }
}

struct Change<'a> {
    seconds: i64,
    run: Option<&'a str>,
}

impl Change<'_> {
    /// `name` is the member's that the value is of.
    fn apply(&self, value: &mut Value, name: Option<&str>) {
        match value {
            Value::Object(members) => members.iter_mut().for_each(|(name, value)| self.apply(value, Some(name))),
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.apply(element, name)),
            Value::Number(number) => {
                if let Some(moved) = number.as_i64().filter(|_| name.is_some_and(is_time)).and_then(|at| self.moved(at)) {
                    *value = moved.into();
                }
            }
            Value::String(text) => {
                if let Some(run) = self.run.filter(|_| is_own_id(text)) {
                    text.push('_');
                    text.push_str(run);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn moved(&self, at: i64) -> Option<i64> {
        match at {
            at if SECONDS.contains(&at) => Some(at + self.seconds),
            at if MILLISECONDS.contains(&at) => Some(at + self.seconds * 1000),
            _ => None,
        }
    }
}

fn is_time(name: &str) -> bool {
    const NAMES: [&str; 8] = ["created", "start", "end", "date", "timestamp", "next_payment", "frozen_time", "cancel_at"];
    const ENDINGS: [&str; 6] = ["_at", "_start", "_end", "_anchor", "_date", "_attempt"];
    NAMES.contains(&name) || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn is_own_id(text: &str) -> bool {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    is_word && OWN_PREFIXES.iter().any(|prefix| text.len() > prefix.len() && text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::deliver::Webhook;

    fn outgoing(provider: Provider, body: &Value, message_id: Option<&str>) -> Outgoing {
        let webhook = Webhook { body: body.to_string().into(), message_id: message_id.map(str::to_owned) };
        Outgoing { at: "x".into(), provider, webhook }
    }

    fn body(one: &Outgoing) -> Value {
        serde_json::from_slice(&one.webhook.body).expect("JSON")
    }

    #[test]
    fn the_newest_event_happens_now_and_the_distances_stay() {
        let stripe = json!({"id": "evt_1", "created": 1_700_000_000, "data": {"object": {"id": "sub_1", "trial_end": 1_700_086_400,
            "amount": 1_700_000_000, "quantity": 1, "items": {"data": [{"current_period_end": 1_700_086_400}]}}}});
        let clerk = json!({"timestamp": 1_700_000_100_500_i64, "data": {"id": "user_1", "created_at": 1_700_000_000_000_i64}});
        let mut all = [outgoing(Provider::Stripe, &stripe, None), outgoing(Provider::Clerk, &clerk, Some("msg_1"))];
        let now = DateTime::from_timestamp(1_800_000_100, 0).expect("valid");
        freshen(&mut all, false, Some(now)).expect("JSON");
        let (stripe, clerk) = (body(&all[0]), body(&all[1]));
        assert_eq!(stripe["created"], 1_800_000_000);
        assert_eq!(stripe["data"]["object"]["trial_end"], 1_800_086_400);
        assert_eq!(stripe["data"]["object"]["items"]["data"][0]["current_period_end"], 1_800_086_400);
        assert_eq!(stripe["data"]["object"]["amount"], 1_700_000_000, "an amount is no time");
        assert_eq!(clerk["timestamp"], 1_800_000_100_500_i64);
        assert_eq!(clerk["data"]["created_at"], 1_800_000_000_000_i64);
        assert_eq!((stripe["id"].as_str(), all[1].webhook.message_id.as_deref()), (Some("evt_1"), Some("msg_1")));
    }

    #[test]
    fn ids_of_events_and_users_are_new_everywhere_alike_and_those_of_the_catalog_are_not() {
        let event = json!({"id": "evt_1", "created": 1, "type": "customer.subscription.updated", "data": {"object": {
            "id": "sub_1", "customer": "cus_1", "metadata": {"clerk_user_id": "user_ada", "note": "cus_ is a prefix"},
            "items": {"data": [{"id": "si_1", "price": {"id": "price_1", "product": "prod_1"}}]}}}});
        let mut all = [
            outgoing(Provider::Stripe, &event, None),
            outgoing(Provider::Clerk, &json!({"data": {"id": "user_ada"}}), Some("m")),
        ];
        freshen(&mut all, true, None).expect("JSON");
        let (stripe, clerk) = (body(&all[0]), body(&all[1]));
        let object = &stripe["data"]["object"];
        let run = object["id"].as_str().and_then(|id| id.strip_prefix("sub_1_")).expect("a new id").to_owned();
        assert_eq!(stripe["id"], format!("evt_1_{run}"));
        assert_eq!(object["customer"], format!("cus_1_{run}"));
        assert_eq!(object["metadata"]["clerk_user_id"], clerk["data"]["id"]);
        assert_eq!(object["metadata"]["note"], "cus_ is a prefix");
        assert_eq!(object["items"]["data"][0]["price"], json!({"id": "price_1", "product": "prod_1"}));
        assert_eq!(all[1].webhook.message_id, Some(format!("m_{run}")));
        assert_eq!(stripe["type"], "customer.subscription.updated");
    }
}
