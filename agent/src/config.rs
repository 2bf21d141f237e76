//! Files -> Config, once.
