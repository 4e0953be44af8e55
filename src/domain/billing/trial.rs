//! Trial status and conversion.
