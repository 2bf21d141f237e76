//! The life of runs and of their agent, with the real program.
