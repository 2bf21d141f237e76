//! `crewtap verify`: whether the journal is what was recorded.
