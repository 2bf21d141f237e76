//! What policy was asked, as the journal has it; and what it would have been asked, where everything passed unasked.
//!
//! Reads records in their order and holds what is open. Never judges.

use std::collections::{BTreeMap, HashMap, HashSet};

use crewtap_core::action::{Fact, Facts, Verb};
use crewtap_core::bodies::{Chunk, Decided, Dns, Request};
use crewtap_core::chain::Record;
use crewtap_core::event::{Body, Event};
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::identity::Identity;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::Mode;
use crewtap_core::session::Side;
use crewtap_core::target::{Name, Proof, Resource, Target};
use crewtap_core::verdict::{Effect, Verdict};
use crewtap_core::view::coding::{Decoder, End};
use crewtap_core::wire::llm;

use crate::clock::Zone;

/// Of a body that tells a model's name, in bytes. What is longer counts as not understood.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Requests of one session whose answers have not come; a client that sends more ahead is read without the eldest.
const OPEN_MAX: usize = 8192;

/// One thing that was asked of policy, or would have been.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) at_ns: u64,
    pub(super) run: RunId,
    pub(super) session: Option<SessionId>,
    pub(super) n: Option<u32>,
    pub(super) identity: Identity,
    /// What policy takes the target for today, where the catalog knows it; else what it was taken for.
    pub(super) resource: Resource,
    pub(super) verb: Verb,
    pub(super) subject: String,
    pub(super) facts: Facts,
    pub(super) mode: Mode,
    /// As it was recorded; an allow where nobody was asked.
    pub(super) verdict: Verdict,
}

/// Reads the records of some runs.
pub(super) struct Reading<'c> {
    catalog: &'c Catalog,
    zone: &'c Zone,
    wanted: HashSet<RunId>,
    runs: HashMap<RunId, Owner>,
    sessions: HashMap<SessionId, Seen>,
}

/// Whose run it is, and the mode that it began in.
struct Owner {
    identity: Identity,
    mode: Mode,
}

/// One session.
struct Seen {
    identity: Identity,
    target: Option<Target>,
    protocol: String,
    /// Its TLS was opened: its target could prove its name.
    opened: bool,
    /// Exchanges without an answer.
    open: BTreeMap<u32, Open>,
}

/// One exchange.
#[derive(Default)]
struct Open {
    /// It is on record what policy said.
    decided: bool,
    request: Option<(u64, RunId, Request)>,
    /// Of a request whose content tells more.
    body: Vec<u8>,
    too_long: bool,
}

impl<'c> Reading<'c> {
    pub(super) fn new(catalog: &'c Catalog, zone: &'c Zone, wanted: impl IntoIterator<Item = RunId>) -> Self {
        let wanted = wanted.into_iter().collect();
        Self { catalog, zone, wanted, runs: HashMap::new(), sessions: HashMap::new() }
    }

    /// Takes the next record; what was asked goes to `asked`.
    pub(super) fn take(&mut self, record: &Record, asked: &mut dyn FnMut(Asked)) {
        let event = &record.event;
        let Some(run) = event.run.filter(|run| self.wanted.contains(run)) else { return };
        match (&event.body, event.session) {
            (Body::RunStarted(started), _) => {
                let identity = started.identity.clone().with_content(&record.payload);
                self.runs.insert(run, Owner { identity, mode: started.mode });
            }
            (Body::SessionOpened(opened), Some(session)) => {
                // The run's is the same, and has all groups.
                let owner = self.runs.get(&run).map(|owner| &owner.identity);
                let owner = owner.filter(|owner| owner.id == opened.identity.id);
                let identity = owner.unwrap_or(&opened.identity).clone();
                let seen =
                    Seen { identity, target: None, protocol: String::new(), opened: false, open: BTreeMap::new() };
                self.sessions.insert(session, seen);
            }
            (Body::Classified(classified), Some(session)) => {
                if let Some(seen) = self.sessions.get_mut(&session) {
                    seen.target = Some(classified.target.clone());
                    seen.protocol.clone_from(&classified.protocol);
                }
            }
            (Body::Tls(tls), Some(session)) => {
                if let Some(seen) = self.sessions.get_mut(&session) {
                    seen.opened = tls.opened;
                }
            }
            (Body::Decided(decided), _) => self.decided(event, run, decided, asked),
            (Body::Dns(dns), _) => self.dns(event, run, dns, asked),
            (Body::Request(request), Some(session)) => self.request(event, run, session, request, asked),
            (Body::Chunk(chunk), Some(session)) => self.chunk(event, session, chunk, &record.payload),
            (Body::Response(response), Some(session)) => {
                let seen = self.sessions.get_mut(&session);
                let open = seen.zip(event.exchange).and_then(|(seen, n)| Some((n, seen.open.remove(&n)?)));
                // What crewtap refused without a question was no policy's.
                if let Some((n, open)) = open.filter(|(_, open)| !open.decided && response.outcome != "blocked") {
                    self.unasked(session, n, open, asked);
                }
            }
            (Body::SessionClosed(_), Some(session)) => {
                self.flush(session, asked);
                self.sessions.remove(&session);
            }
            _ => {}
        }
    }

    /// There are no more records: what is open will have no answer.
    pub(super) fn finish(mut self, asked: &mut dyn FnMut(Asked)) {
        let mut open: Vec<SessionId> = self.sessions.keys().copied().collect();
        open.sort();
        for session in open {
            self.flush(session, asked);
        }
    }

    fn flush(&mut self, session: SessionId, asked: &mut dyn FnMut(Asked)) {
        let Some(seen) = self.sessions.get_mut(&session) else { return };
        for (n, open) in std::mem::take(&mut seen.open) {
            if !open.decided {
                self.unasked(session, n, open, asked);
            }
        }
    }

    fn identity(&self, run: RunId, session: Option<SessionId>) -> Identity {
        let of_session = session.and_then(|session| self.sessions.get(&session)).map(|seen| &seen.identity);
        let identity = of_session.or_else(|| self.runs.get(&run).map(|owner| &owner.identity));
        identity.cloned().unwrap_or_else(Identity::unknown)
    }

    fn decided(&mut self, event: &Event, run: RunId, decided: &Decided, asked: &mut dyn FnMut(Asked)) {
        let seen = event.session.and_then(|session| self.sessions.get_mut(&session));
        let mut target = target_of(&decided.facts);
        let mut protocol = if decided.verb == Verb::Resolve.as_str() { "dns".to_owned() } else { String::new() };
        let mut opened = false;
        if let Some(seen) = seen {
            protocol.clone_from(&seen.protocol);
            opened = seen.opened;
            if let Some(n) = event.exchange {
                let open = seen.open.entry(n).or_default();
                (open.decided, open.request, open.body) = (true, None, Vec::new());
                target = seen.target.clone().or(target);
            }
        }
        let Some(verb) = Verb::named(&decided.verb) else { return };
        let found = target.as_ref().and_then(|target| self.catalog.resource(target, &protocol, opened));
        let known = found.map(|found| found.entry.resource());
        asked(Asked {
            at_ns: event.at.wall_ns,
            run,
            session: event.session,
            n: event.exchange,
            identity: self.identity(run, event.session),
            resource: known.unwrap_or_else(|| decided.resource.clone()),
            verb,
            subject: decided.subject.clone(),
            facts: self.completed(&decided.facts, event.at.wall_ns),
            mode: decided.mode,
            verdict: decided.verdict.clone(),
        });
    }

    /// With the time, where an older agent did not tell it.
    fn completed(&self, facts: &Facts, at_ns: u64) -> Facts {
        let mut all = self.zone.facts(at_ns);
        all.extend(facts.clone());
        all
    }

    /// A look-up of a run whose look-ups nobody is asked for.
    fn dns(&mut self, event: &Event, run: RunId, dns: &Dns, asked: &mut dyn FnMut(Asked)) {
        let is_open = self.runs.get(&run).is_some_and(|owner| owner.mode == Mode::Record);
        if dns.answered || !is_open {
            return;
        }
        let target = Target { address: dns.resolver, name: None };
        let name = dns.name.trim_end_matches('.').to_ascii_lowercase();
        let subject = format!("{} {name}", dns.record);
        let mut facts = target.facts();
        facts.insert("name".into(), Fact::Text(name));
        facts.insert("record".into(), Fact::Text(dns.record.clone()));
        let of = (event.at.wall_ns, run, event.session, None);
        self.would_ask(of, &target, ("dns", false), (Verb::Resolve, subject, facts), asked);
    }

    fn request(
        &mut self,
        event: &Event,
        run: RunId,
        session: SessionId,
        request: &Request,
        asked: &mut dyn FnMut(Asked),
    ) {
        let (Some(seen), Some(n)) = (self.sessions.get_mut(&session), event.exchange) else { return };
        let open = seen.open.entry(n).or_default();
        if !open.decided && open.request.is_none() {
            open.request = Some((event.at.wall_ns, run, request.clone()));
        }
        if seen.open.len() > OPEN_MAX
            && let Some((n, open)) = seen.open.pop_first()
            && !open.decided
        {
            self.unasked(session, n, open, asked);
        }
    }

    fn chunk(&mut self, event: &Event, session: SessionId, chunk: &Chunk, payload: &[u8]) {
        let is_body = chunk.side == Side::Client && chunk.part.as_deref().is_none_or(|part| part == "body");
        let (Some(seen), Some(n), true) = (self.sessions.get_mut(&session), event.exchange, is_body) else { return };
        let Some(open) = seen.open.get_mut(&n) else { return };
        let tells = open.request.as_ref().is_some_and(|(_, _, request)| asks_model(request));
        if !tells || open.too_long {
            return;
        }
        if open.body.len() + payload.len() > BODY_BYTES_MAX {
            (open.too_long, open.body) = (true, Vec::new());
        } else {
            open.body.extend_from_slice(payload);
        }
    }

    /// A request that passed without a question.
    fn unasked(&self, session: SessionId, n: u32, open: Open, asked: &mut dyn FnMut(Asked)) {
        let Some((at_ns, run, request)) = open.request else { return };
        let Some(seen) = self.sessions.get(&session) else { return };
        let Some(target) = seen.target.as_ref() else { return };
        let body = (!open.too_long).then_some(open.body);
        let Some((verb, facts)) = action(&request, target, body) else { return };
        self.would_ask(
            (at_ns, run, Some(session), Some(n)),
            target,
            (&seen.protocol, seen.opened),
            (verb, request.subject, facts),
            asked,
        );
    }

    fn would_ask(
        &self,
        (at_ns, run, session, n): (u64, RunId, Option<SessionId>, Option<u32>),
        target: &Target,
        (protocol, opened): (&str, bool),
        (verb, subject, mut facts): (Verb, String, Facts),
        asked: &mut dyn FnMut(Asked),
    ) {
        let known = self.catalog.resource(target, protocol, opened).map(|found| found.entry.resource());
        facts.extend(self.zone.facts(at_ns));
        asked(Asked {
            at_ns,
            run,
            session,
            n,
            identity: self.identity(run, session),
            resource: known.unwrap_or_else(|| Resource::uncatalogued(target.address)),
            verb,
            subject,
            facts,
            mode: Mode::Record,
            verdict: Verdict::of(Effect::Allow, Vec::new()),
        });
    }
}

/// The target that facts tell of.
fn target_of(facts: &Facts) -> Option<Target> {
    let (Some(Fact::Text(address)), Some(Fact::Int(port))) = (facts.get("address"), facts.get("port")) else {
        return None;
    };
    let proofs = [Proof::Claimed, Proof::Dns, Proof::Certificate, Proof::Hostkey, Proof::Config];
    let proof = match facts.get("proof") {
        Some(Fact::Text(proof)) => proofs.into_iter().find(|known| known.as_str() == proof),
        _ => None,
    };
    let name = match (facts.get("host"), proof) {
        (Some(Fact::Text(host)), Some(proof)) => Some(Name { host: host.clone(), proof }),
        _ => None,
    };
    Some(Target { address: (address.parse::<std::net::IpAddr>().ok()?, u16::try_from(*port).ok()?).into(), name })
}

fn text<'f>(facts: &'f Facts, name: &str) -> Option<&'f str> {
    match facts.get(name) {
        Some(Fact::Text(text)) => Some(text),
        _ => None,
    }
}

fn asks_model(request: &Request) -> bool {
    let raw = text(&request.facts, "raw_path").unwrap_or_default();
    text(&request.facts, "method").is_some_and(|method| llm::is_call(method, raw.as_bytes()))
}

/// What a request would have been asked as.
fn action(request: &Request, target: &Target, body: Option<Vec<u8>>) -> Option<(Verb, Facts)> {
    let mut facts = target.facts();
    facts.extend(request.facts.clone());
    if facts.contains_key("kinds") {
        return Some((Verb::Query, facts));
    }
    let method = text(&facts, "method")?.to_ascii_uppercase();
    facts.insert("method".into(), Fact::Text(method));
    if let Some(Fact::Set(unclear)) = facts.remove("unclear") {
        facts.extend(unclear.into_iter().map(|name| (name, Fact::Text("UNPARSED".into()))));
    }
    for name in ["path", "raw_path"] {
        facts.entry(name.into()).or_insert_with(|| Fact::Text("UNPARSED".into()));
    }
    if let Some(Fact::Text(host)) = facts.remove("claimed_host") {
        let is_address = target.name.is_none() && host.parse() == Ok(target.address.ip().to_canonical());
        if !is_address {
            facts.insert("host".into(), Fact::Text(host));
            facts.insert("proof".into(), Fact::Text(Proof::Claimed.as_str().into()));
        }
    }
    if !asks_model(request) {
        return Some((Verb::HttpRequest, facts));
    }
    let path = text(&facts, "path").unwrap_or_default();
    let coding = request.parts.iter().find(|part| part.name == "body").and_then(|part| part.coding.as_deref());
    let content = body.and_then(|body| decoded(coding, body));
    let told = content.map_or_else(llm::Asked::unparsed, |content| llm::Asked::read(path, &content));
    facts.insert("model".into(), Fact::Text(told.model));
    facts.insert("tools".into(), Fact::Set(told.tools));
    Some((Verb::LlmCall, facts))
}

fn decoded(coding: Option<&str>, body: Vec<u8>) -> Option<Vec<u8>> {
    let Some(coding) = coding else { return Some(body) };
    let mut decoder = Decoder::of(coding, BODY_BYTES_MAX);
    decoder.feed(&body);
    let decoded = decoder.finish();
    (decoded.end == End::Whole).then_some(decoded.bytes)
}
