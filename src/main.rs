//! Hands the command line to `cli` and its answer to the operating system.

use std::process::ExitCode;

// An event is a few dozen small allocations; the system's allocator would take a fifth of the time of decoding and folding.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    billsync::cli::run(std::env::args_os())
}
