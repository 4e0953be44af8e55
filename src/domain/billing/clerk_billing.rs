//! Clerk Billing's items as a subscription.
