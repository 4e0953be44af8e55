//! `bench`: what it measures, what it leaves behind, and what it refuses.

mod ingest;
mod queries;
