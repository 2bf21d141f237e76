//! The real crew under the real program.
