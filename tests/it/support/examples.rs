//! The examples that README and `--help` give, read from the texts themselves.

pub mod help;
