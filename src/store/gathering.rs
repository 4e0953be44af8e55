//! Callers who want the same of the database at the same moment share one statement. Nobody waits for company: whoever comes
//! alone is served at once, and whoever comes while everyone is busy goes with all the others who did.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, MutexGuard as TurnGuard, oneshot};

use crate::store::consume::{Meter, Reading};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::grants::Grant;
use crate::store::profiles::UserProfile;

/// Statements of one kind that run at a time, each on a connection: while one waits for the disk another one runs.
const AT_A_TIME: usize = 2;

/// Callers of one statement.
const MOST: usize = 64;

/// Users whose requests wait for a row are told apart by this many turns.
const TURNS: usize = 64;

/// How long a turn is waited for: longer than the row itself, since a crowd at a reached limit passes one by one.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// What callers come together for.
pub(crate) struct Gatherings {
    /// By the Clerk id.
    pub(crate) profiles: Arc<Gathering<String, Option<UserProfile>>>,
    grants: [Lanes; Meter::ALL.len()],
    turns: [Turn<()>; TURNS],
}

/// The requests of one user always take the same lane, which runs one statement at a time: two would find each other's locks.
type Lanes = [Arc<Gathering<Grant, Result<Reading, StoreError>>>; AT_A_TIME];

impl Default for Gatherings {
    fn default() -> Self {
        let lanes = || std::array::from_fn(|_| Arc::new(Gathering::new(1).working_here()));
        Gatherings {
            profiles: Arc::new(Gathering::new(AT_A_TIME)),
            grants: std::array::from_fn(|_| lanes()),
            turns: std::array::from_fn(|_| Turn::new(())),
        }
    }
}

impl Gatherings {
    /// Of one meter, each of which has a statement of its own.
    pub(crate) fn grants(&self, meter: Meter, clerk_id: &str) -> &Arc<Gathering<Grant, Result<Reading, StoreError>>> {
        let [campaigns, creators, enrichments] = &self.grants;
        let [even, odd] = match meter {
            Meter::Campaigns => campaigns,
            Meter::Creators => creators,
            Meter::Enrichments => enrichments,
        };
        if hash(clerk_id).is_multiple_of(2) { even } else { odd }
    }

    /// A user's turn to wait for a row. Requests of one user would wait for each other in the database anyway, and each would
    /// keep a connection from everybody else meanwhile.
    pub(crate) async fn turn(&self, clerk_id: &str) -> Result<TurnGuard<'_, ()>, StoreError> {
        let number = (hash(clerk_id) % TURNS as u64) as usize;
        let held = || StoreError::new(ErrorKind::Contended, "the user's earlier requests are waiting for the row");
        let turn = self.turns.get(number).ok_or_else(held)?;
        tokio::time::timeout(TURN_PATIENCE, turn.lock()).await.map_err(|_elapsed| held())
    }
}

fn hash(clerk_id: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(clerk_id)
}

/// The work on a question ended without an answer; it may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

/// One kind of question, with what answers it.
pub(crate) struct Gathering<Q, A> {
    most_workers: usize,
    /// Where the work is done; with the caller when there is none.
    runtime: Option<Handle>,
    state: Mutex<State<Q, A>>,
}

/// `None`: to be asked by itself.
type Reply<A> = oneshot::Sender<Option<A>>;

struct State<Q, A> {
    waiting: Vec<(Q, Reply<A>)>,
    workers: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Gathering<Q, A> {
    fn new(most_workers: usize) -> Self {
        Gathering { most_workers, runtime: None, state: Mutex::new(State { waiting: Vec::new(), workers: 0 }) }
    }

    /// Has the work done on the runtime of whoever calls this: that of a caller may end before the work of the others does.
    fn working_here(self) -> Self {
        Gathering { runtime: Handle::try_current().ok(), ..self }
    }

    /// Asks together with the others who wait. `work` answers questions in their order, `None` for one that has to be asked by
    /// itself.
    pub(crate) async fn ask<W, F>(self: &Arc<Self>, question: Q, work: W) -> Result<Option<A>, Abandoned>
    where
        W: Fn(Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Vec<Option<A>>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        if self.enter(question, reply) {
            // Not the caller's own work: a caller may go away.
            let shift = Shift { gathering: Arc::clone(self), is_over: false }.work(work);
            match &self.runtime {
                Some(runtime) => drop(runtime.spawn(shift)),
                None => drop(tokio::spawn(shift)),
            }
        }
        answer.await.map_err(|_dropped| Abandoned)
    }

    /// Queues a question. True when somebody has to begin to work.
    fn enter(&self, question: Q, reply: Reply<A>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push((question, reply));
        let is_needed = state.workers < self.most_workers;
        state.workers += usize::from(is_needed);
        is_needed
    }
}

/// A worker's time at work. However it ends, nobody is left waiting for a worker who is not there.
struct Shift<Q, A> {
    gathering: Arc<Gathering<Q, A>>,
    is_over: bool,
}

impl<Q: Send + 'static, A: Send + 'static> Shift<Q, A> {
    async fn work<W, F>(mut self, work: W)
    where
        W: Fn(Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Vec<Option<A>>> + Send + 'static,
    {
        while let Some((questions, replies)) = self.take() {
            for (reply, answer) in replies.into_iter().zip(work(questions).await) {
                // Whoever has gone away does not need it.
                let _ = reply.send(answer);
            }
        }
    }

    /// Those who wait. When there are none the shift is over, before anybody else can come and take its worker for busy.
    fn take(&mut self) -> Option<(Vec<Q>, Vec<Reply<A>>)> {
        let mut state = self.gathering.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is done for those who went away before their turn.
        state.waiting.retain(|(_, reply)| !reply.is_closed());
        if state.waiting.is_empty() {
            state.workers -= 1;
            self.is_over = true;
            return None;
        }
        let count = state.waiting.len().min(MOST);
        Some(state.waiting.drain(..count).unzip())
    }
}

impl<Q, A> Drop for Shift<Q, A> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // The work panicked, or the runtime ends.
        let mut state = self.gathering.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.workers -= 1;
        if state.workers == 0 {
            for (_, reply) in state.waiting.drain(..) {
                // Nobody has begun with these.
                let _ = reply.send(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    type Doubling = Arc<Gathering<u32, u32>>;
    type Answer = Result<Option<u32>, Abandoned>;

    /// Answers with the double, when `open` allows it; counts how often it was asked.
    async fn double(gathering: &Doubling, n: u32, open: &Arc<tokio::sync::Semaphore>, asked: &Arc<AtomicUsize>) -> Answer {
        let (open, asked) = (Arc::clone(open), Arc::clone(asked));
        let work = move |questions: Vec<u32>| {
            let (open, asked) = (Arc::clone(&open), Arc::clone(&asked));
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                open.acquire().await.unwrap().forget();
                assert!(!questions.contains(&13), "what no worker survives");
                questions.iter().map(|n| (*n != 7).then_some(n * 2)).collect()
            }
        };
        gathering.ask(n, work).await
    }

    #[tokio::test]
    async fn whoever_comes_while_all_are_busy_goes_together() {
        let (gathering, open, asked) =
            (Doubling::new(Gathering::new(2)), Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
        let all = futures_util::future::join_all((100..150).map(|n| double(&gathering, n, &open, &asked)));
        let opening = async {
            tokio::task::yield_now().await;
            open.add_permits(50);
        };
        let (answers, ()) = tokio::join!(all, opening);
        assert_eq!(answers, (100..150).map(|n| Ok(Some(n * 2))).collect::<Vec<_>>());
        assert!(asked.load(Ordering::SeqCst) <= 3, "{asked:?}");
        assert_eq!(gathering.state.lock().unwrap().workers, 0);
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_given_back() {
        let (gathering, open, asked) =
            (Doubling::new(Gathering::new(2)), Arc::new(tokio::sync::Semaphore::new(9)), Arc::default());
        assert_eq!(double(&gathering, 7, &open, &asked).await, Ok(None));
        assert_eq!(double(&gathering, 8, &open, &asked).await, Ok(Some(16)));
    }

    #[tokio::test]
    async fn workers_that_die_leave_nobody_waiting_and_are_replaced() {
        let (gathering, open, asked) =
            (Doubling::new(Gathering::new(2)), Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
        let all = futures_util::future::join_all([13, 13, 13, 2, 3].map(|n| double(&gathering, n, &open, &asked)));
        let opening = async {
            tokio::task::yield_now().await;
            open.add_permits(50);
        };
        let (answers, ()) = tokio::join!(all, opening);
        assert_eq!(answers[0], Err(Abandoned), "it may have been done, and must not be done again");
        assert_eq!(gathering.state.lock().unwrap().workers, 0);
        assert_eq!(double(&gathering, 4, &open, &asked).await, Ok(Some(8)));
    }

    #[tokio::test]
    async fn a_runtime_that_ends_takes_nobody_elses_work_along() {
        let (gathering, open, asked) =
            (Doubling::new(Gathering::new(1).working_here()), Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
        let (there, is_open, was_asked) = (Arc::clone(&gathering), Arc::clone(&open), Arc::clone(&asked));
        let began = tokio::task::spawn_blocking(move || {
            let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            other.block_on(async move {
                let first = tokio::time::timeout(std::time::Duration::ZERO, double(&there, 1, &is_open, &was_asked)).await;
                assert!(first.is_err(), "it still waits");
            });
            other
        });
        let other = began.await.unwrap();
        let ending = async {
            tokio::task::yield_now().await;
            tokio::task::spawn_blocking(move || drop(other)).await.unwrap();
            open.add_permits(9);
        };
        let (answer, ()) = tokio::join!(double(&gathering, 2, &open, &asked), ending);
        assert_eq!(answer, Ok(Some(4)));
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_takes_nobody_along() {
        let (gathering, open, asked) =
            (Doubling::new(Gathering::new(2)), Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
        let first = tokio::time::timeout(std::time::Duration::ZERO, double(&gathering, 1, &open, &asked)).await;
        assert!(first.is_err(), "it still waits");
        open.add_permits(50);
        assert_eq!(double(&gathering, 2, &open, &asked).await, Ok(Some(4)));
    }
}
