//! First bytes -> protocol.
