//! DNS over TCP: relayed and recorded like any stream, with its questions and answers understood on the way.

use super::super::Driver;
use super::super::opaque;

/// The row of the table.
pub const DRIVER: Driver = Driver { name: "dns", protocols: &["dns"], serve: opaque::DRIVER.serve };
