//! Hands the command line to `cli` and its answer to the operating system.

use std::process::ExitCode;

fn main() -> ExitCode {
    billsync::cli::run(std::env::args_os())
}
