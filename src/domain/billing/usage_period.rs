//! Monthly usage periods: boundaries and resets.
