//! The application's mail schedule.
