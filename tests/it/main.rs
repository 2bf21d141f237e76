//! The one integration test program: everything that needs root, namespaces, real servers or the whole repository.

mod tidy;
mod world;
