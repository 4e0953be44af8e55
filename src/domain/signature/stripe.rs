//! Stripe's signature scheme.
