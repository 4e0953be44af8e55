//! Senders who come back with their next event as soon as they are answered share a transaction, and nobody else waits for it.

use billsync::ingest::committer::{Committer, Options};
use futures_util::future::join_all;

use super::{Script, event, millis, one_writer, sized_event, submit_all};

/// Submits a small event of each sender at once; each comes back with one of so many bytes, one scheduling round after the
/// sender before it.
async fn come_back(committer: &Committer, senders: usize, bytes: usize) {
    let sender = async |number: usize| {
        committer.submit(event(format!("evt_{number}"), "cus_1")).await.unwrap();
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
        committer.submit(sized_event(format!("evt_{number}_again"), "cus_1", bytes)).await.unwrap();
    };
    join_all((0..senders).map(sender)).await;
}

#[tokio::test(start_paused = true)]
async fn senders_who_were_just_answered_come_back_into_one_transaction() {
    let script = Script::succeeding_after(millis(3));
    come_back(&Committer::start_with(script.clone(), one_writer()), 10, 2).await;
    assert_eq!(script.sizes(), [10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_senders_come_back_into_is_bounded_in_bytes() {
    let script = Script::succeeding_after(millis(3));
    come_back(&Committer::start_with(script.clone(), one_writer()), 5, 2 * 1024 * 1024).await;
    assert_eq!(script.sizes(), [5, 2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_senders_come_back_into_is_bounded_in_events() {
    let script = Script::succeeding_after(millis(3));
    let options = Options { batch_events: 8, ..one_writer() };
    come_back(&Committer::start_with(script.clone(), options), 12, 2).await;
    assert!(script.sizes().iter().all(|size| *size <= 8), "{:?}", script.sizes());
    assert_eq!(script.committed().len(), 24);
}

#[tokio::test(start_paused = true)]
async fn long_after_a_burst_nobody_waits() {
    let script = Script::succeeding_after(millis(3));
    let committer = Committer::start_with(script.clone(), one_writer());
    submit_all(&committer, (0..10).map(|n| event(format!("evt_{n}"), "cus_1")).collect()).await;
    tokio::time::sleep(millis(20)).await;
    let (_, took) = submit_all(&committer, vec![event("evt_late", "cus_1")]).await.remove(0);
    assert_eq!(took, millis(3));
}

#[tokio::test(start_paused = true)]
async fn after_a_burst_one_event_waits_a_moment_and_the_next_does_not() {
    let script = Script::succeeding_after(millis(3));
    let committer = Committer::start_with(script.clone(), one_writer());
    submit_all(&committer, (0..10).map(|n| event(format!("evt_{n}"), "cus_1")).collect()).await;
    let (_, late) = submit_all(&committer, vec![event("evt_late", "cus_1")]).await.remove(0);
    assert!(late > millis(3) && late <= millis(5), "{late:?}");
    let (_, later) = submit_all(&committer, vec![event("evt_later", "cus_1")]).await.remove(0);
    assert_eq!(later, millis(3));
    assert_eq!(script.sizes(), [10, 1, 1]);
}
