//! The difference between two sets of rows.
