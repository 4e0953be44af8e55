# What one does daily. `just` alone lists it.

_list:
    @just --list

# Format, lint, test: what to run before a commit
check:
    cargo fmt --all
    cargo clippy --all-targets -- -D warnings
    cargo test

# See it work, with users of its own, and keep it running
demo:
    cargo run --release -- demo

# The tests whose name contains WORD
test WORD:
    cargo test {{ WORD }}

# The benchmarks
bench:
    cargo bench

# All that has to hold before a change lands
ci:
    .ci/run
