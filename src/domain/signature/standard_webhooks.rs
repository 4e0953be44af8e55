//! Clerk's (Svix, Standard Webhooks) signature scheme.
