//! Which snapshot of an object wins.
