//! Live, primary, plan, period, cancel and renewal dates of Stripe subscriptions.
