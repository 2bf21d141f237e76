//! The driver of everything that is not decoded: relays and records bytes.

use super::{Driver, Legs};
use crate::redacted::Redacted;
use crate::relay::{self, End, First};
use crate::session::Session;

/// The last row of the table.
pub const DRIVER: Driver = Driver {
    name: "opaque",
    protocols: &[],
    turn: None,
    refuse: None,
    serve: |session, legs| Box::pin(serve(session, legs)),
};

async fn serve(session: &Session, legs: Legs) -> End {
    let mut tap = Redacted::new(session);
    let Legs { client, target, first, .. } = legs;
    let end = relay::relay(session, &mut tap, (&client, first), (&target, First::default())).await;
    tap.finish();
    end
}
