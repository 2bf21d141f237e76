//! DNS over TCP: relayed and recorded like any stream, with its questions and answers understood on the way.

use crewtap_core::bodies::Note;
use crewtap_core::session::Side;
use crewtap_core::wire::dns::Framing;

use super::super::{Driver, Legs};
use super::judged;
use super::view::Asked;
use crate::leg::Farewell;
use crate::redacted::Redacted;
use crate::relay::{self, Blocked, End, First, Taken, Tap};
use crate::runs::Run;
use crate::session::Session;

/// The row of the table.
pub const DRIVER: Driver = Driver {
    name: "dns",
    protocols: &["dns"],
    turn: None,
    refuse: None,
    serve: |session, legs| Box::pin(serve(session, legs)),
};

async fn serve(session: &Session, legs: Legs) -> End {
    let Legs { client, target, first, classified, .. } = legs;
    let mut tap = Listen {
        bytes: Redacted::new(session),
        run: session.run(),
        asked: Asked { transport: "tcp", resolver: session.origin().destination, pid: session.origin().pid },
        questions: Framing::default(),
        answers: Framing::default(),
        session,
        judged: !session.is_open(&classified.target),
    };
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
    session: &'s Session,
    /// Questions are asked for before they go.
    judged: bool,
}

impl Tap for Listen<'_> {
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        if side == Side::Client && self.judged {
            return self.take_judged(bytes);
        }
        self.pass(side, bytes)
    }

    fn ended(&mut self, side: Side, rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked> {
        if side == Side::Client && self.judged && !rest.is_empty() {
            let text = format!("the client ended inside of a question: {} bytes were not forwarded", rest.len());
            self.session.record(Note { code: "dns_cut".into(), text })?;
            return self.bytes.ended(side, &[], farewell);
        }
        self.bytes.ended(side, rest, farewell)
    }
}

impl Listen<'_> {
    /// Whole questions only, each judged before any of its bytes goes.
    fn take_judged(&mut self, bytes: &[u8]) -> Result<Taken, Blocked> {
        let mut whole = 0;
        while let Some(message) = message(bytes.get(whole..).unwrap_or_default()) {
            if let Some((decided, passes)) = judged::judge(self.session.ground(), self.run, &self.asked, message) {
                let why = format!("refused by policy: {}", decided.subject);
                self.session.record(decided)?;
                if !passes {
                    return Err(Blocked::Refused { why, answer: Vec::new() });
                }
            }
            whole += LENGTH_BYTES + message.len();
        }
        let mut taken = self.pass(Side::Client, bytes.get(..whole).unwrap_or_default())?;
        taken.position = Some(self.session.newest());
        Ok(taken)
    }

    fn pass(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
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
}

/// Bytes of the length before a message.
const LENGTH_BYTES: usize = 2;

/// The first message of a stream, where all of it has come.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
