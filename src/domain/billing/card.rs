//! The card and address a user pays with.
