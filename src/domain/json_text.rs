//! What JSON text can be told without parsing it into a tree: depth, what jsonb refuses, redaction by key.
