//! The winner is a function of the set of snapshots: every rule by hand, then every order of generated sets.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Verdict, admit};
use crate::domain::billing::facts::{ClerkUser, Fact, Invoice, Subscription};
use crate::domain::billing::stored::StoredObject;
use crate::domain::event::{ObjectKey, Provider, Snapshot, TypeRank};
use crate::domain::json_text::JsonText;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
}

fn snapshot(event_id: &str, second: i64, object: Value, previous: Option<Value>) -> Snapshot {
    let status = object["status"].as_str().unwrap_or("active").to_owned();
    Snapshot {
        key: ObjectKey { provider: Provider::Stripe, account: String::new(), object_id: "sub_1".into() },
        object_type: "subscription".into(),
        event_id: event_id.into(),
        as_of: at(second),
        terminal: status == "canceled",
        type_rank: TypeRank::Other,
        api_version: Some("2025-09-30.clover".into()),
        from_read: false,
        owner_id: Some("cus_1".into()),
        deletion: false,
        object: Some(object.to_string().into()),
        previous_attributes: previous.map(|previous| JsonText::new(&previous.to_string())),
        fact: Some(Arc::new(Fact::Subscription(Subscription {
            status,
            customer: "cus_1".into(),
            trial_end: object["quantity"].as_i64().map(at),
            ..Subscription::default()
        }))),
    }
}

fn created(event_id: &str, second: i64, object: Value) -> Snapshot {
    Snapshot { type_rank: TypeRank::Created, ..snapshot(event_id, second, object, None) }
}

fn fold(snapshots: &[Snapshot]) -> StoredObject {
    let mut stored = None;
    for snapshot in snapshots {
        stored = Some(admit(stored, snapshot).object);
    }
    stored.unwrap()
}

fn winner(snapshots: &[Snapshot]) -> (String, bool) {
    let object = fold(snapshots);
    (object.winner.unwrap().event_id, object.ambiguous)
}

/// Asserts the winner in every order of the snapshots.
fn in_every_order(snapshots: &[Snapshot], expected: &str, ambiguous: bool) {
    let mut order: Vec<usize> = (0..snapshots.len()).collect();
    permute(&mut order, 0, &mut |order| {
        let shuffled: Vec<Snapshot> = order.iter().map(|&index| snapshots[index].clone()).collect();
        let ids: Vec<&str> = shuffled.iter().map(|s| s.event_id.as_str()).collect();
        assert_eq!(winner(&shuffled), (expected.to_owned(), ambiguous), "in the order {ids:?}");
    });
}

fn permute(order: &mut [usize], from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == order.len() {
        return visit(order);
    }
    for index in from..order.len() {
        order.swap(from, index);
        permute(order, from + 1, visit);
        order.swap(from, index);
    }
}

#[test]
fn the_later_snapshot_wins() {
    let old = snapshot("evt_z", 0, json!({"status": "trialing"}), None);
    let new = snapshot("evt_a", 1, json!({"status": "active"}), None);
    in_every_order(&[old, new], "evt_a", false);
}

#[test]
fn terminal_beats_time() {
    let ended = snapshot("evt_a", 5, json!({"status": "canceled"}), None);
    let late = snapshot("evt_b", 9, json!({"status": "active"}), None);
    in_every_order(&[ended, late], "evt_a", false);
}

#[test]
fn an_event_beats_a_read_of_the_same_second_and_a_later_read_wins() {
    let event = snapshot("evt_a", 5, json!({"status": "active"}), None);
    let read = Snapshot { from_read: true, ..snapshot("read:z", 5, json!({"status": "past_due"}), None) };
    let later = Snapshot { from_read: true, ..snapshot("read:b", 6, json!({"status": "unpaid"}), None) };
    in_every_order(&[event.clone(), read.clone()], "evt_a", false);
    in_every_order(&[event, read, later], "read:b", false);
}

#[test]
fn previous_attributes_order_a_burst() {
    let first = created("evt_9", 0, json!({"status": "incomplete", "quantity": 1}));
    let second = snapshot("evt_5", 0, json!({"status": "active", "quantity": 1}), Some(json!({"status": "incomplete"})));
    let third = snapshot("evt_1", 0, json!({"status": "active", "quantity": 2}), Some(json!({"quantity": 1})));
    in_every_order(&[first, second, third], "evt_1", false);
}

#[test]
fn there_and_back_ends_where_the_only_ordering_ends() {
    let a = created("evt_c", 0, json!({"status": "active", "quantity": 1}));
    let b = snapshot("evt_b", 0, json!({"status": "active", "quantity": 2}), Some(json!({"quantity": 1})));
    let c = snapshot("evt_a", 0, json!({"status": "active", "quantity": 1}), Some(json!({"quantity": 2})));
    in_every_order(&[a, b, c], "evt_a", false);
}

#[test]
fn absent_is_null_and_arrays_compare_as_a_whole() {
    let before = created("evt_z", 0, json!({"status": "active", "items": [1, 2]}));
    let after = snapshot(
        "evt_a",
        0,
        json!({"status": "active", "items": [1], "cancel_at": 7}),
        Some(json!({"items": [1, 2], "cancel_at": null})),
    );
    in_every_order(&[before, after], "evt_a", false);
}

#[test]
fn versions_do_not_precede_each_other() {
    let old = Snapshot { api_version: Some("2024-06-20".into()), ..created("evt_a", 0, json!({"status": "incomplete"})) };
    let new = snapshot("evt_b", 0, json!({"status": "active"}), Some(json!({"status": "incomplete"})));
    // Neither precedes the other: the type rank decides.
    in_every_order(&[old, new], "evt_b", false);
}

#[test]
fn the_greatest_rank_wins_and_equal_ranks_with_other_facts_are_ambiguous() {
    let a = snapshot("evt_a", 0, json!({"status": "active", "quantity": 1}), None);
    let b = snapshot("evt_b", 0, json!({"status": "past_due", "quantity": 1}), None);
    in_every_order(&[a.clone(), b], "evt_b", true);
    let same_facts = snapshot("evt_c", 0, json!({"status": "active", "quantity": 1, "description": "x"}), None);
    in_every_order(&[a.clone(), same_facts], "evt_c", false);
    let incomplete = snapshot("evt_z", 0, json!({"status": "incomplete", "quantity": 1}), None);
    in_every_order(&[a, incomplete], "evt_a", false);
}

#[test]
fn invoices_are_ordered_by_progress() {
    let invoice = |event_id: &str, status: &str, attempts: i64| Snapshot {
        object_type: "invoice".into(),
        terminal: false,
        fact: Some(Arc::new(Fact::Invoice(Invoice { status: status.into(), attempt_count: attempts, ..Invoice::default() }))),
        ..snapshot(event_id, 0, json!({"status": status, "attempt_count": attempts}), None)
    };
    let all =
        [invoice("evt_d", "draft", 0), invoice("evt_c", "open", 0), invoice("evt_b", "open", 1), invoice("evt_a", "paid", 1)];
    in_every_order(&all, "evt_a", false);
    in_every_order(&all[..3], "evt_b", false);
}

#[test]
fn more_than_six_contenders_are_settled_by_rank() {
    let mut all = vec![created("evt_0", 0, json!({"status": "incomplete", "quantity": 0}))];
    for n in 1..8 {
        let previous = json!({"quantity": n - 1});
        all.push(snapshot(&format!("evt_{}", 9 - n), 0, json!({"status": "active", "quantity": n}), Some(previous)));
    }
    for rotation in 0..all.len() {
        all.rotate_left(1);
        // Everybody but the last change precedes somebody.
        assert_eq!(winner(&all), ("evt_2".to_owned(), false), "after rotation {rotation}");
    }
}

#[test]
fn deletion_is_a_flag_with_the_earliest_evidence() {
    let stub = |event_id: &str, second| Snapshot {
        deletion: true,
        object: None,
        fact: None,
        type_rank: TypeRank::Deleted,
        ..snapshot(event_id, second, json!({}), None)
    };
    let alive = snapshot("evt_a", 1, json!({"status": "active"}), None);
    let mut order = [0, 1, 2];
    let all = [alive, stub("evt_b", 4), stub("evt_c", 3)];
    permute(&mut order, 0, &mut |order| {
        let object = fold(&order.iter().map(|&index| all[index].clone()).collect::<Vec<_>>());
        assert_eq!(object.deleted_at, Some(at(3)));
        assert_eq!(object.winner.unwrap().event_id, "evt_a");
    });
}

#[test]
fn a_losing_snapshot_is_stale_and_a_repeated_one_changes_nothing() {
    let new = snapshot("evt_a", 1, json!({"status": "active"}), None);
    let old = snapshot("evt_b", 0, json!({"status": "trialing"}), None);
    let stored = admit(None, &new).object;
    let late = admit(Some(stored), &old);
    assert_eq!((late.verdict, late.changed), (Verdict::Stale, false));
    let again = admit(Some(late.object), &new);
    assert_eq!((again.verdict, again.changed), (Verdict::Won, false));
}

#[test]
fn a_deleted_person_is_forgotten_also_by_snapshots_that_come_later() {
    let person = |event_id: &str, second| Snapshot {
        key: ObjectKey { provider: Provider::Clerk, account: String::new(), object_id: "user_1".into() },
        object_type: "user".into(),
        terminal: false,
        fact: Some(Arc::new(Fact::ClerkUser(ClerkUser {
            created_at: Some(at(0)),
            email: Some("ada@example.com".into()),
            stripe_customer_id: Some("cus_1".into()),
            ..ClerkUser::default()
        }))),
        ..snapshot(event_id, second, json!({"email": "ada@example.com"}), None)
    };
    let deletion = Snapshot { deletion: true, object: None, fact: None, ..person("msg_d", 5) };
    let mut order = [0, 1, 2];
    let all = [person("msg_a", 1), deletion, person("msg_b", 9)];
    permute(&mut order, 0, &mut |order| {
        let object = fold(&order.iter().map(|&index| all[index].clone()).collect::<Vec<_>>());
        let text = object.winner.unwrap().object.unwrap();
        assert!(!text.contains("ada@"), "{text}");
        assert!(text.contains("cus_1"), "{text}");
        let Some(Fact::ClerkUser(user)) = object.fact.as_deref() else { panic!("{:?}", object.fact) };
        assert_eq!((user.email.as_deref(), user.stripe_customer_id.as_deref()), (None, Some("cus_1")));
    });
}

fn arbitrary_snapshot() -> impl Strategy<Value = Snapshot> {
    let previous = prop_oneof![
        Just(None),
        (0..3i64).prop_map(|q| Some(json!({"quantity": q}))),
        "incomplete|active".prop_map(|status| Some(json!({"status": status}))),
        Just(Some(json!({"metadata": {"a": null}}))),
    ];
    let status = prop_oneof![Just("incomplete"), Just("active"), Just("past_due"), Just("canceled")];
    let owner = prop_oneof![Just(None), Just(Some("cus_1")), Just(Some("cus_2"))];
    let rank = prop_oneof![Just(TypeRank::Created), Just(TypeRank::Other), Just(TypeRank::Other), Just(TypeRank::Deleted)];
    let text = (0..3i64, status, 0..3i64, any::<bool>());
    (text, previous, owner, rank, any::<bool>(), 0..8u8).prop_map(
        |((second, status, quantity, meta), previous, owner, rank, read, kind)| {
            let mut object = json!({"status": status, "quantity": quantity, "metadata": {}});
            if meta {
                object["metadata"]["a"] = json!("x");
            }
            let mut made = snapshot("", second, object, previous);
            made.type_rank = rank;
            made.owner_id = owner.map(str::to_owned);
            made.from_read = read && kind == 1;
            made.deletion = rank == TypeRank::Deleted;
            if kind == 0 && made.deletion {
                (made.object, made.fact, made.terminal) = (None, None, false);
            }
            made
        },
    )
}

fn comparable(object: &StoredObject) -> Value {
    let winner = object.winner.as_ref().map(|w| (w.event_id.clone(), w.as_of, w.terminal, w.names_owner, w.object.clone()));
    let mut contenders: Vec<&str> = object.contenders.iter().map(|c| c.event_id.as_str()).collect();
    contenders.sort_unstable();
    json!([winner, contenders, object.owner_id, object.owner_evidence, object.fact, object.ambiguous, object.deleted_at])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_order_and_any_duplication_end_in_the_same_object(
        mut snapshots in prop::collection::vec(arbitrary_snapshot(), 1..8),
        seed in any::<u64>(),
    ) {
        for (index, snapshot) in snapshots.iter_mut().enumerate() {
            snapshot.event_id = format!("evt_{index}");
        }
        let expected = comparable(&fold(&snapshots));
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..6 {
            let mut shuffled = snapshots.clone();
            for _ in 0..random.usize(..4) {
                shuffled.push(snapshots[random.usize(..snapshots.len())].clone());
            }
            random.shuffle(&mut shuffled);
            prop_assert_eq!(&comparable(&fold(&shuffled)), &expected);
        }
    }
}

/// A snapshot of a second in which much happens, to a flat object.
fn crowded_snapshot() -> impl Strategy<Value = Snapshot> {
    let previous = prop_oneof![
        Just(None),
        (0..4i64).prop_map(|q| Some(json!({"quantity": q}))),
        (0..4i64, 0..2i64).prop_map(|(q, r)| Some(json!({"quantity": q, "rest": r}))),
        "incomplete|active".prop_map(|status| Some(json!({"status": status}))),
    ];
    let status = prop_oneof![Just("incomplete"), Just("active"), Just("past_due")];
    let rank = prop_oneof![1 => Just(TypeRank::Created), 6 => Just(TypeRank::Other), 1 => Just(TypeRank::Deleted)];
    let version = prop_oneof![8 => Just("2025-09-30.clover"), 1 => Just("2024-06-20")];
    (status, 0..4i64, 0..2i64, previous, rank, version).prop_map(|(status, quantity, rest, previous, type_rank, version)| {
        let made = snapshot("", 0, json!({"status": status, "quantity": quantity, "rest": rest}), previous);
        Snapshot { type_rank, api_version: Some(version.into()), ..made }
    })
}

/// The rule for more contenders than can be ordered, spelled out over the whole set.
fn by_definition(snapshots: &[Snapshot]) -> (String, bool) {
    let objects: Vec<Value> = snapshots.iter().map(|s| serde_json::from_str(s.object.as_deref().unwrap()).unwrap()).collect();
    let holds = |object: &Value, previous: &Value| previous.as_object().unwrap().iter().all(|(name, was)| object[name] == *was);
    let precedes = |a: usize, b: usize| {
        let (earlier, later) = (&snapshots[a], &snapshots[b]);
        let Some(previous) = &later.previous_attributes else { return false };
        let previous = serde_json::from_str(previous.as_str()).unwrap();
        earlier.type_rank != TypeRank::Deleted
            && later.type_rank != TypeRank::Created
            && earlier.api_version == later.api_version
            && holds(&objects[a], &previous)
            && !holds(&objects[b], &previous)
    };
    let all = 0..snapshots.len();
    let mut standing: Vec<usize> = all.clone().filter(|&a| !all.clone().any(|b| a != b && precedes(a, b))).collect();
    if standing.is_empty() {
        standing = all.collect();
    }
    let rank = |index: usize| (snapshots[index].type_rank, objects[index]["status"] != "incomplete");
    let winner = standing.iter().copied().max_by_key(|&index| (rank(index), snapshots[index].event_id.clone())).unwrap();
    let differs = |&index: &usize| rank(index) == rank(winner) && snapshots[index].fact != snapshots[winner].fact;
    (snapshots[winner].event_id.clone(), standing.iter().any(differs))
}

#[test]
fn of_a_crowd_the_greatest_wins_in_doubt_whatever_the_order_and_the_others_are_let_go() {
    let burst = |size: i64| -> Vec<Snapshot> {
        let change = |n| snapshot(&format!("evt_{n:04}"), 0, json!({"quantity": n}), Some(json!({"quantity": n - 1})));
        let unowned = |n| Snapshot { owner_id: Some(format!("cus_{n}")).filter(|_| n % 3 == 1), ..change(n) };
        (0..size).map(unowned).collect()
    };
    let mut random = fastrand::Rng::with_seed(1);
    for (size, crowded) in [(127, false), (128, true), (129, true), (300, true)] {
        let snapshots = burst(size);
        let mut shuffled = snapshots.clone();
        random.shuffle(&mut shuffled);
        shuffled.extend(snapshots.iter().filter(|_| random.u8(..4) == 0).cloned());
        let expected = format!("evt_{:04}", size - 1);
        // The greatest snapshot that names an owner decides where the winner names none.
        let naming = (0..size).rev().find(|n| n % 3 == 1).unwrap();
        for order in [snapshots.clone(), snapshots.into_iter().rev().collect(), shuffled] {
            let object = fold(&order);
            assert_eq!((object.winner.unwrap().event_id, object.ambiguous), (expected.clone(), crowded), "{size}");
            assert_eq!(object.owner_id, Some(format!("cus_{naming}")), "{size}");
            assert_eq!(object.contenders.len(), if crowded { 0 } else { size as usize - 1 });
        }
        let later = fold(&[burst(size), vec![snapshot("evt_x", 1, json!({}), None)]].concat());
        assert_eq!((later.winner.unwrap().event_id.as_str(), later.ambiguous), ("evt_x", false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_crowded_second_ends_as_its_whole_set_says_also_when_it_is_stored_in_between(
        mut snapshots in prop::collection::vec(crowded_snapshot(), 7..16),
        seed in any::<u64>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        for (index, snapshot) in snapshots.iter_mut().enumerate() {
            snapshot.event_id = format!("evt_{index:02}");
        }
        let expected = by_definition(&snapshots);
        for _ in 0..4 {
            random.shuffle(&mut snapshots);
            let mut stored: Option<StoredObject> = None;
            for snapshot in &snapshots {
                if let Some(object) = stored.as_mut().filter(|_| random.bool()) {
                    let text = serde_json::to_string(&object.contenders).unwrap();
                    object.contenders = serde_json::from_str(&text).unwrap();
                }
                stored = Some(admit(stored, snapshot).object);
            }
            let object = stored.unwrap();
            prop_assert_eq!((object.winner.unwrap().event_id, object.ambiguous), expected.clone());
        }
    }
}
