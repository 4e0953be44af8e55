//! The examples that README and `--help` give, read from the texts themselves and typed as they stand there.

mod cast;
pub mod collected;
pub mod help;
mod shell;
mod stage;

use std::sync::Mutex;

use collected::{Block, Example};
use stage::World;

/// Blocks that are tried at a time.
const AT_A_TIME: usize = 3;

/// What cannot be run by a test, each with the reason. The start of the line is enough.
pub const NOT_RUN: [(&str, &str); 8] = [
    ("cargo test", "is what runs this"),
    ("cargo bench", "measures for minutes"),
    ("cargo doc --open", "opens a browser"),
    ("just --justfile", "needs just, which only repeats what stands elsewhere"),
    ("docker build", "needs a container engine and the network"),
    ("docker run", "needs a container engine"),
    ("systemctl enable", "needs systemd and changes the machine"),
    ("stripe listen", "needs the Stripe CLI and an account"),
];

/// Whether the list of those that cannot be run names it.
pub fn is_not_run(example: &Example) -> bool {
    NOT_RUN.iter().any(|(start, _)| example.line.starts_with(start))
}

/// Types every example, and fails with all that is wrong with them.
pub async fn try_all(blocks: Vec<Block>) {
    let world = World::of(&blocks).await;
    let (waiting, wrong) = (Mutex::new(blocks.iter()), Mutex::new(Vec::new()));
    // A thread and a runtime each: whoever waits for a command must not keep another's half-open connection waiting, for which
    // the database server would wait in turn.
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            let block = waiting.lock().unwrap().next();
            let Some(block) = block else { break };
            let found = runtime.block_on(try_block(&world, block));
            wrong.lock().unwrap().extend(found);
        }
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(work);
            }
        });
    });
    let wrong: Vec<String> = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} examples are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

async fn try_block(world: &World, block: &Block) -> Vec<String> {
    let tried: Vec<&Example> = block.examples.iter().filter(|example| !is_not_run(example)).collect();
    if tried.is_empty() {
        return Vec::new();
    }
    let stage = world.stage(block).await;
    let mut wrong = Vec::new();
    for example in tried {
        wrong.extend(shell::try_out(&stage, example).await.err());
    }
    wrong
}
