//! Whose a Stripe customer is.
