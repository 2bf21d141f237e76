//! DNS over TCP: relayed and recorded like any stream, with its questions and answers understood on the way.

use std::borrow::Cow;

use crewtap_core::session::Side;
use crewtap_core::wire::dns::Framing;

use super::super::opaque::{self, Finish, Redacted};
use super::super::{Client, Driver};
use super::view::Asked;
use crate::recorder::Unrecorded;
use crate::relay::Tap;
use crate::runs::Run;
use crate::session::Session;

/// The row of the table.
pub const DRIVER: Driver =
    Driver { name: "dns", protocols: &["dns"], serve: |session, client| Box::pin(serve(session, client)) };

async fn serve(session: Session, client: Client) {
    let tap = Listen {
        bytes: Redacted::new(&session),
        run: session.run().clone(),
        asked: Asked { transport: "tcp", resolver: session.origin().destination, pid: session.origin().pid },
        questions: Framing::default(),
        answers: Framing::default(),
    };
    opaque::serve_with(session, client, tap).await;
}

/// Listens in on both directions.
struct Listen {
    bytes: Redacted,
    run: std::sync::Arc<Run>,
    asked: Asked,
    questions: Framing,
    answers: Framing,
}

impl Tap for Listen {
    fn shown<'a>(&mut self, side: Side, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        self.bytes.shown(side, bytes)
    }

    fn forwarding(&mut self, side: Side, bytes: &[u8]) -> Result<(), Unrecorded> {
        let (run, asked, mut result) = (&self.run, &self.asked, Ok(()));
        match side {
            Side::Client => self.questions.feed(bytes, |message| {
                result = std::mem::replace(&mut result, Ok(())).and_then(|()| run.record(asked.question(message)));
            }),
            Side::Server => self.answers.feed(bytes, |message| {
                let (told, names) = asked.answer(message);
                result = std::mem::replace(&mut result, Ok(())).and_then(|()| run.record(told));
                for (address, name) in names {
                    run.names().learn(address, &name);
                }
            }),
        }
        result
    }
}

impl Finish for Listen {
    fn finish(self, session: &Session) -> Result<(), Unrecorded> {
        self.bytes.finish(session)
    }
}
