//! DNS over TCP: relayed and recorded like any stream, with its questions and answers understood on the way.

use crewtap_core::session::Side;
use crewtap_core::wire::dns::Framing;

use super::super::{Driver, Legs};
use super::view::Asked;
use crate::leg::Farewell;
use crate::redacted::Redacted;
use crate::relay::{self, Blocked, End, First, Taken, Tap};
use crate::runs::Run;
use crate::session::Session;

/// The row of the table.
pub const DRIVER: Driver =
    Driver { name: "dns", protocols: &["dns"], turn: None, serve: |session, legs| Box::pin(serve(session, legs)) };

async fn serve(session: &Session, legs: Legs) -> End {
    let mut tap = Listen {
        bytes: Redacted::new(session),
        run: session.run(),
        asked: Asked { transport: "tcp", resolver: session.origin().destination, pid: session.origin().pid },
        questions: Framing::default(),
        answers: Framing::default(),
    };
    let Legs { client, target, first, .. } = legs;
    let end = relay::relay(session, &mut tap, (&client, first), (&target, First::default())).await;
    tap.bytes.finish();
    end
}

/// Listens in on both directions.
struct Listen<'s> {
    bytes: Redacted<'s>,
    run: &'s Run,
    asked: Asked,
    questions: Framing,
    answers: Framing,
}

impl Tap for Listen<'_> {
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        let taken = self.bytes.take(side, bytes)?;
        let (run, asked, mut result) = (self.run, &self.asked, Ok(()));
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
        result?;
        Ok(taken)
    }

    fn ended(&mut self, side: Side, rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked> {
        self.bytes.ended(side, rest, farewell)
    }
}
