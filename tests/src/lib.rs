//! What the tests and the demo share. It knows crewtap only as a program: nothing here links the product.

pub mod world;
