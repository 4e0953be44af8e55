//! Signature verification, both schemes, and [`VerifiedBody`]: the proof that a body was verified. No parsing of events.

pub mod standard_webhooks;
pub mod stripe;

use bytes::Bytes;

/// A body whose origin is established: by a signature, or because the operator supplied it.
#[derive(Clone, Debug)]
pub struct VerifiedBody {
    bytes: Bytes,
}

impl VerifiedBody {
    /// For what the operator's own files or ledger hold (`replay`) and what an authenticated API call returned.
    pub fn from_operator(bytes: Bytes) -> VerifiedBody {
        VerifiedBody { bytes }
    }

    /// The raw bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
