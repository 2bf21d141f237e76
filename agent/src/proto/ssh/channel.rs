//! One channel for a command, a shell or a subsystem, from its opening to its end.
//!
//! Owns its exchange: what is asked for is on record and decided before the target hears of it, and what both sides say is on
//! record before it is forwarded. Never touches another channel.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use bytes::Bytes;
use crewtap_core::bodies::{Note, Resized};
use crewtap_core::event::Body;
use crewtap_core::limits::SSH_BURST_BYTES;
use crewtap_core::run::Mode;
use crewtap_core::session::Side;
use crewtap_core::verdict::Verdict;

use super::Conversation;
use super::ask::{ToClient, ToTarget};
use super::exchange::{Exchange, Stream};
use super::queue::{Answer, Inbox, Item, Reply, Start, Terminal};
use super::sftp::Sftp;
use super::told::{Asked, Ended};
use crate::gate::Passage;
use crate::recorder::{Told, Unrecorded};

/// Exit status of a command that was refused: it was found and not executed.
const REFUSED_STATUS: u32 = 126;

/// Exit status of a command that the target did not start although it was told that it runs.
const NOT_STARTED_STATUS: u32 = 255;

/// What gets a yes whatever comes of it: a refusal is told by an exit status.
fn answers_early(start: &Start) -> bool {
    !matches!(start, Start::Subsystem(_))
}

/// How long the client waits for the target's end where that may be what it ends its own input for: a status usually follows at once.
const STATUS_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254 section 5.2).
pub(super) const STDERR: u32 = 1;

/// A channel.
pub(super) struct Lane<'c> {
    pub(super) conversation: &'c Conversation<'c>,
    pub(super) client: ToClient,
    pub(super) target: ToTarget,
    pub(super) up: Arc<Inbox>,
    pub(super) down: Arc<Inbox>,
    /// What the client has set, a line each.
    pub(super) variables: RefCell<String>,
    /// It has ended its input.
    pub(super) ended: Cell<bool>,
}

impl<'c> Lane<'c> {
    pub(super) fn new(
        conversation: &'c Conversation<'c>,
        (client, target): (ToClient, ToTarget),
        (up, down): (Arc<Inbox>, Arc<Inbox>),
    ) -> Self {
        Self { conversation, client, target, up, down, variables: RefCell::default(), ended: Cell::new(false) }
    }

    /// Serves the channel to its end.
    ///
    /// # Errors
    /// When something cannot be recorded: then the session must end.
    pub(super) async fn serve(self) -> Result<(), Unrecorded> {
        let served = self.until_started().await;
        self.part().await;
        served
    }

    /// The channel is over on both sides.
    pub(super) async fn part(&self) {
        // Who has closed it already hears nothing of it.
        let _ = self.target.close().await;
        let _ = self.client.close().await;
        self.conversation.forget(&self.client, &self.target);
    }

    /// What is said of a channel before it is anything.
    async fn until_started(&self) -> Result<(), Unrecorded> {
        let mut terminal: Option<Terminal> = None;
        loop {
            let (item, weight) = self.up.next().await;
            self.up.done(weight);
            match item {
                Item::Terminal(asked, answer) => {
                    let given = self.give_terminal(&asked).await?;
                    self.answer(answer, given).await;
                    terminal = given.then_some(asked).or(terminal);
                }
                Item::Variable { name, value } => self.set(&name, value).await?,
                Item::Resize(size) => {
                    if let Some(terminal) = &mut terminal {
                        terminal.size = size;
                        self.note("ssh_terminal", format!("{} columns and {} rows", size.columns, size.rows))?;
                        let _ = self.resize(size).await;
                    }
                }
                Item::Start(start, answer) => return self.start(start, answer, terminal.as_ref()).await,
                // It has nothing to say to what it is about to start.
                Item::Eof => self.ended.set(true),
                Item::Close | Item::Gone => return Ok(()),
                _ => {}
            }
        }
    }

    async fn give_terminal(&self, asked: &Terminal) -> Result<bool, Unrecorded> {
        let Terminal { term, size, modes } = asked;
        self.note("ssh_terminal", format!("a terminal {term} of {} columns and {} rows", size.columns, size.rows))?;
        self.conversation.session.settled().await?;
        let asked = self.target.request_pty(true, term, size.columns, size.rows, size.width, size.height, modes).await;
        Ok(asked.is_ok() && self.confirmed().await)
    }

    /// Passes a variable on. What it changes at the other end no policy sees: in enforce mode only what is of no consequence
    /// passes.
    async fn set(&self, name: &str, value: String) -> Result<(), Unrecorded> {
        let harmless =
            ["LANG", "LANGUAGE", "TERM", "COLORTERM", "NO_COLOR", "TZ"].contains(&name) || name.starts_with("LC_");
        let passes = harmless || self.conversation.session.mode() != Mode::Enforce;
        let (code, what) = if passes { ("ssh_variable", "sets") } else { ("ssh_variable_refused", "may not set") };
        self.note(code, format!("the client {what} {name}={value}"))?;
        if passes {
            let line = format!("{name}={value}\n");
            self.variables.borrow_mut().push_str(&line);
            self.conversation.session.settled().await?;
            let _ = self.target.set_env(false, name, value).await;
        }
        Ok(())
    }

    async fn resize(&self, size: super::queue::Size) -> Result<(), russh::Error> {
        self.target.window_change(size.columns, size.rows, size.width, size.height).await
    }

    /// The target's answer to what was asked last.
    async fn confirmed(&self) -> bool {
        // A program can say something, and end, before it is confirmed that it runs.
        let is_answer = |item: &Item| matches!(item, Item::Success | Item::Failure | Item::Close | Item::Gone);
        let (item, weight) = self.down.pick(is_answer).await;
        self.down.done(weight);
        matches!(item, Item::Success)
    }

    /// Answers a request: in the loop that waits for it, or behind it.
    pub(super) async fn answer(&self, answer: Answer, yes: bool) {
        let reply = if yes { Reply::Yes } else { Reply::No };
        if answer.send(reply).is_err() {
            self.answer_later(yes).await;
        }
    }

    async fn answer_later(&self, yes: bool) {
        let to_client = &self.conversation.to_client;
        // Who has gone needs no answer.
        let _ = if yes {
            to_client.channel_success(self.client.id()).await
        } else {
            to_client.channel_failure(self.client.id()).await
        };
    }

    /// Asks for what the channel is to become, and serves it.
    async fn start(&self, start: Start, answer: Answer, terminal: Option<&Terminal>) -> Result<(), Unrecorded> {
        let conversation = self.conversation;
        // A terminal changes bytes: what is read here would not be what the target reads.
        let is_sftp = terminal.is_none() && matches!(&start, Start::Subsystem(name) if name == "sftp");
        let asked = Asked::start(&start, terminal, (&conversation.user, &self.variables.borrow()));
        let exchange = Exchange::new(conversation.next(), terminal.is_some());
        self.present(&exchange, &asked)?;
        let mut answer = Some(answer);
        // Each operation on a file is asked for by itself.
        if !is_sftp && let Err(why) = self.decide(&exchange, &asked, (&start, &mut answer)).await? {
            return self.refuse(&exchange, &start, answer, &why).await;
        }
        conversation.session.settled().await?;
        let begun = match &start {
            Start::Exec(command) => self.target.exec(true, command.clone()).await,
            Start::Shell => self.target.request_shell(true).await,
            Start::Subsystem(name) => self.target.request_subsystem(true, name.clone()).await,
        };
        let begun = begun.is_ok() && self.confirmed().await;
        match answer {
            Some(answer) => self.answer(answer, begun).await,
            // It was told yes when somebody was asked.
            None if answers_early(&start) => {
                if !begun {
                    let _ = self.client.exit_status(NOT_STARTED_STATUS).await;
                }
            }
            None => self.answer_later(begun).await,
        }
        if !begun {
            return self.end(&exchange, Ended::Failed("the target did not start it"));
        }
        if self.ended.get() {
            let _ = self.target.eof().await;
        }
        let served = if is_sftp { Sftp::new(self, &exchange).serve().await } else { self.pump(&exchange).await };
        // What could not be recorded has no end on record either.
        served?;
        self.finish(&exchange)?;
        self.end(&exchange, Ended::Aborted("the connection ended before it"))
    }

    fn present(&self, exchange: &Exchange, asked: &Asked) -> Result<(), Unrecorded> {
        self.conversation.present(exchange, asked)
    }

    /// Whether it may happen; else why not. Where somebody is asked, the client is answered later.
    async fn decide(
        &self,
        exchange: &Exchange,
        asked: &Asked,
        (start, answer): (&Start, &mut Option<Answer>),
    ) -> Result<Result<(), String>, Unrecorded> {
        let Conversation { session, target, .. } = self.conversation;
        if session.is_open(target) {
            return Ok(Ok(()));
        }
        let decision = session.ask(Some(exchange.n), asked.action.clone(), target, Some(&asked.content()))?;
        let why = self.refusal(exchange.n, &decision.verdict);
        match decision.passage {
            Passage::Open(_) => Ok(Ok(())),
            Passage::Closed => Ok(Err(why)),
            Passage::Held(held) => {
                if let Some(answer) = answer.take() {
                    // The loop that waits goes on meanwhile: other channels are not held. The library forgets that an answer is owed
                    // when anything else is asked: commands and shells, which get a yes in any case, get it now.
                    let _ = answer.send(if answers_early(start) { Reply::Yes } else { Reply::Later });
                }
                tokio::select! {
                    permit = held.answer() => Ok(permit.map(drop).map_err(|no| format!("{why}; {no}"))),
                    () = self.up.closed() => Ok(Err("the client has gone while an approval was waited for".into())),
                }
            }
        }
    }

    /// Why something was refused, for its client.
    pub(super) fn refusal(&self, n: u32, verdict: &Verdict) -> String {
        let policies = if verdict.policies.is_empty() { "none allows it".into() } else { verdict.policies.join(", ") };
        let session = self.conversation.session.id();
        format!("crewtap: refused by policy; session {session}, exchange {n}; policies: {policies}")
    }

    /// Tells the client on its standard error. It gets a yes and an exit status: clients drop what is said beside a no.
    async fn refuse(
        &self,
        exchange: &Exchange,
        start: &Start,
        answer: Option<Answer>,
        why: &str,
    ) -> Result<(), Unrecorded> {
        self.end(exchange, Ended::Blocked)?;
        let tells = !matches!(start, Start::Subsystem(_));
        match answer {
            Some(answer) => self.answer(answer, tells).await,
            None if tells => {}
            None => self.answer_later(false).await,
        }
        if tells {
            let line = Bytes::from(format!("{why}\r\n"));
            let _ = self.client.extended_data_bytes(STDERR, line).await;
            let _ = self.client.exit_status(REFUSED_STATUS).await;
            let _ = self.client.eof().await;
        }
        Ok(())
    }

    /// Moves what both sides say, until one of them has closed the channel.
    pub(super) async fn pump(&self, exchange: &Exchange) -> Result<(), Unrecorded> {
        let up = std::pin::pin!(self.up(exchange));
        let down = std::pin::pin!(self.down(exchange));
        tokio::select! {
            result = up => result,
            result = down => result,
        }
    }

    /// What the client says; returns when it has closed the channel.
    async fn up(&self, exchange: &Exchange) -> Result<(), Unrecorded> {
        loop {
            let (item, weight) = self.up.next().await;
            match item {
                Item::Data(bytes) => {
                    let weight = weight + self.forward(exchange, Stream::Input, bytes, &self.up).await?;
                    self.up.done(weight);
                    continue;
                }
                Item::Eof => {
                    self.ended.set(true);
                    let _ = self.target.eof().await;
                }
                Item::Signal(signal) => {
                    self.note_in(exchange, "ssh_signal", format!("the client sends {signal:?}"))?;
                    self.conversation.session.settled().await?;
                    let _ = self.target.signal(signal).await;
                }
                Item::Resize(size) => {
                    let resized = Resized { columns: size.columns, rows: size.rows };
                    self.tell(exchange, Side::Client, resized)?;
                    let _ = self.resize(size).await;
                }
                Item::Terminal(_, answer) | Item::Start(_, answer) => self.answer(answer, false).await,
                Item::Close | Item::Gone => return Ok(()),
                _ => {}
            }
            self.up.done(weight);
        }
    }

    /// What the target says; returns when it has closed the channel.
    async fn down(&self, exchange: &Exchange) -> Result<(), Unrecorded> {
        let mut is_over = false;
        loop {
            let Some((item, weight)) = self.next_of_target(is_over).await else {
                is_over = false;
                let _ = self.client.eof().await;
                continue;
            };
            if is_over && matches!(item, Item::Close | Item::Gone) {
                let _ = self.client.eof().await;
            }
            match item {
                Item::Data(bytes) => {
                    let weight = weight + self.forward(exchange, Stream::Output, bytes, &self.down).await?;
                    self.down.done(weight);
                    continue;
                }
                Item::Extended(STDERR, bytes) => {
                    let weight = weight + self.forward(exchange, Stream::Errors, bytes, &self.down).await?;
                    self.down.done(weight);
                    continue;
                }
                Item::Eof => is_over = true,
                item @ (Item::ExitStatus(_) | Item::ExitSignal { .. }) => {
                    self.exited(exchange, item).await?;
                    if std::mem::take(&mut is_over) {
                        let _ = self.client.eof().await;
                    }
                }
                Item::Close => {
                    self.end(exchange, Ended::Closed)?;
                    return Ok(());
                }
                Item::Gone => return Ok(()),
                _ => {}
            }
            self.down.done(weight);
        }
    }

    /// The next that the target says; none where it `is_over` and the client is to hear of that now. A client closes the channel as
    /// soon as both sides have ended, and the library then forgets the channel: a status that comes behind the end would be lost.
    async fn next_of_target(&self, is_over: bool) -> Option<(Item, usize)> {
        if !is_over || self.ended.get() {
            return Some(self.down.next().await);
        }
        tokio::time::timeout(STATUS_WAIT, self.down.next()).await.ok()
    }

    async fn exited(&self, exchange: &Exchange, item: Item) -> Result<(), Unrecorded> {
        match item {
            Item::ExitStatus(status) => {
                self.end(exchange, Ended::Status(status))?;
                let _ = self.client.exit_status(status).await;
            }
            Item::ExitSignal { signal, core_dumped, message, language } => {
                self.note_in(exchange, "ssh_exit_signal", format!("the target says: {message}"))?;
                self.end(exchange, Ended::Signal(signal.clone(), core_dumped))?;
                let to_client = &self.conversation.to_client;
                let _ = to_client.exit_signal_request(self.client.id(), signal, core_dumped, message, language).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts data on record and forwards it, with what more of its kind is there; what that more weighs.
    pub(super) async fn forward(
        &self,
        exchange: &Exchange,
        stream: Stream,
        first: Bytes,
        inbox: &Inbox,
    ) -> Result<usize, Unrecorded> {
        let (mut batch, mut weight, mut len) = (vec![first], 0, 0);
        len += batch.iter().map(Bytes::len).sum::<usize>();
        while len < SSH_BURST_BYTES
            && let Some((item, more)) = inbox.more(|item| match item {
                Item::Data(_) => stream != Stream::Errors,
                Item::Extended(STDERR, _) => stream == Stream::Errors,
                _ => false,
            })
        {
            weight += more;
            if let Item::Data(bytes) | Item::Extended(_, bytes) = item {
                len += bytes.len();
                batch.push(bytes);
            }
        }
        self.record(exchange, stream, &batch).await?;
        for bytes in batch {
            let moved = bytes.len();
            let sent = match stream {
                Stream::Input => self.target.data_bytes(bytes).await,
                Stream::Output => self.client.data_bytes(bytes).await,
                Stream::Errors => self.client.extended_data_bytes(STDERR, bytes).await,
            };
            // Who has gone says so by its end.
            if sent.is_ok() {
                self.conversation.session.moved(moved);
            }
        }
        Ok(weight)
    }

    /// Puts data of a stream on record; afterwards it may be forwarded.
    pub(super) async fn record(&self, exchange: &Exchange, stream: Stream, batch: &[Bytes]) -> Result<(), Unrecorded> {
        let session = self.conversation.session;
        let mut hidden = 0;
        let mut told: Vec<Told<'_>> = Vec::with_capacity(batch.len());
        for bytes in batch {
            let payload = exchange.shown(stream, bytes, &mut hidden);
            told.push(Told { exchange: Some(exchange.n), body: exchange.chunk(stream, bytes.len()).into(), payload });
        }
        if hidden > 0 {
            let text = format!("{hidden} bytes that answer a prompt for a secret are hidden");
            let body = Note { code: "ssh_typed_secret".into(), text }.into();
            told.push(Told { exchange: Some(exchange.n), body, payload: Cow::Borrowed(b"") });
        }
        let side = if stream == Stream::Input { Side::Client } else { Side::Server };
        let len = batch.iter().map(Bytes::len).sum();
        let position = session.record_burst(side, len, told)?;
        if session.waits_for_disk() {
            session.durable(position).await?;
        }
        Ok(())
    }

    /// How the exchange ended; the first word counts.
    pub(super) fn end(&self, exchange: &Exchange, ended: Ended) -> Result<(), Unrecorded> {
        if exchange.ended.borrow().is_some() {
            return Ok(());
        }
        self.finish(exchange)?;
        self.tell(exchange, Side::Server, ended.response())?;
        exchange.ended.replace(Some(ended));
        Ok(())
    }

    /// Nothing more comes of what was said so far: what masks had not decided is decided now.
    fn finish(&self, exchange: &Exchange) -> Result<(), Unrecorded> {
        for stream in [Stream::Input, Stream::Output, Stream::Errors] {
            if let Some(chunk) = exchange.finish(stream) {
                self.tell(exchange, chunk.side, chunk)?;
            }
        }
        Ok(())
    }

    pub(super) fn note_in(&self, exchange: &Exchange, code: &str, text: String) -> Result<(), Unrecorded> {
        self.tell(exchange, Side::Client, Note { code: code.into(), text })
    }

    fn tell(&self, exchange: &Exchange, side: Side, body: impl Into<Body>) -> Result<(), Unrecorded> {
        let told = Told { exchange: Some(exchange.n), body: body.into(), payload: Cow::Borrowed(b"") };
        self.conversation.session.record_burst(side, 0, vec![told]).map(drop)
    }

    fn note(&self, code: &str, text: String) -> Result<(), Unrecorded> {
        self.conversation.session.record(Note { code: code.into(), text }).map(drop)
    }
}
