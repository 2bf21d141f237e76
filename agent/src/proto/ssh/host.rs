//! The two ends' keys and algorithms: how the target's host key is judged, what the client is shown, and what both agreed on.
//!
//! Owns what is on record of it. A credential is leased here, once the target has proven what it must. Never logs in.

use std::sync::Arc;

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::{Classified, Note};
use crewtap_core::limits::{SSH_CHANNELS_MAX, SSH_WINDOW_BYTES};
use crewtap_core::run::Mode;
use crewtap_core::session::Outcome;
use crewtap_core::target::Target;
use crewtap_core::wire::ssh::offer::is_post_quantum;
use russh::keys::PublicKeyOrCertificate;
use russh::{Limits, Preferred, SshId, cipher, client, compression, server};

use super::Refused;
use super::keys::Places;
use super::stream::Line;
use super::target_side::{HostKey, Learned};
use crate::authority::{Face, SignedBy};
use crate::gate::Permit;
use crate::hostkeys::{Asked, HostKeys, Preference, Standing, Trust, User};
use crate::lease::Lease;
use crate::recorder::Unrecorded;
use crate::relay::End;
use crate::session::{AskError, Faces, Session};

/// What we call ourselves on both sides.
const VERSION: &str = concat!("SSH-2.0-crewtap_", env!("CARGO_PKG_VERSION"));

/// `SSH_MSG_DISCONNECT`, and the reason `SSH_DISCONNECT_HOST_NOT_ALLOWED_TO_CONNECT` (RFC 4253 section 11.1).
const DISCONNECT: u8 = 1;
const NOT_ALLOWED: u32 = 1;

/// What is known once the target's host key was judged.
pub(super) struct Known {
    /// What policies take the target for.
    pub(super) target: Target,
    pub(super) lease: Option<Lease>,
    pub(super) places: Places,
    pub(super) face: Arc<Face>,
    /// For the record of the log-in.
    pub(super) facts: Facts,
}

/// AES-GCM first: a third of the processor time of `ChaCha20` where the processor knows AES, and no less safe.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// When keys are exchanged anew. OpenSSH begins that itself, long before a cipher's bound; where we begin, the library counts what is
/// still on its way against the other side.
fn limits() -> Limits {
    Limits { rekey_write_limit: REKEY_BYTES, rekey_read_limit: REKEY_BYTES, rekey_time_limit: REKEY_WAIT }
}

/// Half of what OpenSSH lets `ChaCha20` carry under one key, a quarter of what AES may. A packet has 32 bytes at least, so that no nonce
/// comes twice (they count packets in 32 bits).
const REKEY_BYTES: usize = 16 << 30;

const REKEY_WAIT: std::time::Duration = std::time::Duration::from_hours(12);

fn preferred() -> Preferred {
    Preferred {
        cipher: CIPHERS.into(),
        compression: (&[compression::NONE, compression::ZLIB_LEGACY, compression::ZLIB][..]).into(),
        ..Preferred::DEFAULT
    }
}

/// How the target is spoken to; `preference`: which of its keys it is asked for.
pub(super) fn towards_target(preference: Preference) -> Arc<client::Config> {
    let preferred =
        Preferred { key: preference.keys.into(), host_key_certificates: preference.certificates.into(), ..preferred() };
    Arc::new(client::Config {
        client_id: SshId::Standard(VERSION.into()),
        window_size: SSH_WINDOW_BYTES,
        preferred,
        limits: limits(),
        nodelay: true,
        ..client::Config::default()
    })
}

/// How the client is spoken to.
pub(super) fn towards_client(face: &Face) -> Arc<server::Config> {
    Arc::new(server::Config {
        server_id: SshId::Standard(VERSION.into()),
        keys: face.keys.clone(),
        certificates: face.certificates.clone(),
        window_size: SSH_WINDOW_BYTES,
        event_buffer_size: SSH_CHANNELS_MAX,
        limits: limits(),
        preferred: preferred(),
        // The target decides how often somebody may try, and how long it waits.
        auth_rejection_time: std::time::Duration::ZERO,
        max_auth_attempts: 64,
        inactivity_timeout: None,
        nodelay: true,
        ..server::Config::default()
    })
}

/// Names by which the process may know the target.
fn hosts(session: &Session, target: &Target) -> Vec<String> {
    if session.is_behind() {
        return target.name.iter().map(|name| name.host.clone()).collect();
    }
    let looked_up = session.run().names().get(session.origin().destination.ip()).map(str::to_owned);
    looked_up.into_iter().chain(target.name.as_ref().map(|name| name.host.clone())).collect()
}

/// Which of the target's keys is asked for first.
pub(super) async fn preference(session: &Session, faces: &Faces, permit: &Permit) -> Preference {
    let (hosts, user) = (hosts(session, permit.target()), User::of(session.process()));
    let found = session.catalogued(permit, "ssh");
    let address = permit.target().address;
    let asked = Asked { hosts: &hosts, address, user: Some(&user), found: found.as_ref() };
    faces.hostkeys.preference(&asked).await
}

/// Judges what the target has shown, asks again where it has proven its name, and leases what the catalog has for it.
///
/// # Errors
/// How the session ends where it may not go on.
pub(super) async fn judge(
    session: &Session,
    faces: &Faces,
    (classified, permit): (&Classified, Permit),
    (learned, places): (&Learned, Places),
) -> Result<Known, Box<End>> {
    let Some(host_key) = learned.facts().host_key else {
        return Err(Box::new(unreached("it has shown no host key")));
    };
    let standing = standing(session, &faces.hostkeys, &permit, &host_key).await;
    let note = standing.note.clone().map(|(code, text)| Note { code: code.into(), text });
    note.map_or(Ok(()), |note| session.record(note).map(drop)).map_err(unrecorded)?;
    let unverified = match &standing.trust {
        Trust::Refused(why) => {
            let error = format!("the target's host key {} is refused: {why}", standing.fingerprint);
            return Err(Box::new(End { outcome: Outcome::Refused, error: Some(error) }));
        }
        trust => !trust.is_trusted(),
    };
    if unverified {
        let text = format!("nobody vouches for the host key {}: the client decides", standing.fingerprint);
        session.record(Note { code: "hostkey_unverified".into(), text }).map_err(unrecorded)?;
    }
    let (target, permit) = prove(session, classified, permit, &standing).await?;
    let lease = session.lease(&permit, "ssh", standing.channel()).await.map_err(|error| {
        // Places on the host are for the record.
        let error = format!("the catalog's credential is not used: {}; session {}", error.code(), session.id());
        Box::new(End { outcome: Outcome::Refused, error: Some(error) })
    })?;
    let face = face(session, faces, &standing)?;
    let facts = Facts::from([
        ("host_key".to_owned(), Fact::Text(standing.fingerprint.clone())),
        ("host_key_trust".to_owned(), Fact::Text(standing.trust.as_str().to_owned())),
    ]);
    Ok(Known { target, lease, places, face, facts })
}

async fn standing(session: &Session, hostkeys: &HostKeys, permit: &Permit, key: &HostKey) -> Standing {
    let (hosts, user) = (hosts(session, permit.target()), User::of(session.process()));
    let found = session.catalogued(permit, "ssh");
    let address = permit.target().address;
    let asked = Asked { hosts: &hosts, address, user: Some(&user), found: found.as_ref() };
    let shown = match key {
        HostKey::Plain(key) => PublicKeyOrCertificate::PublicKey { key: key.clone(), hash_alg: None },
        HostKey::Certified(certificate) => PublicKeyOrCertificate::Certificate((**certificate).clone()),
    };
    hostkeys.judge(&asked, &shown).await
}

/// The target with the name that it has proven, and the permit for that.
async fn prove(
    session: &Session,
    classified: &Classified,
    permit: Permit,
    standing: &Standing,
) -> Result<(Target, Permit), Box<End>> {
    session.could_prove();
    let name = standing.name().or_else(|| classified.target.name.clone());
    let target = Target { name, ..classified.target.clone() };
    let known = Classified { target: target.clone(), ..classified.clone() };
    if target != classified.target {
        session.record(known.clone()).map_err(unrecorded)?;
    }
    // Judged again: now the target has proven its name, or it has not.
    if session.is_open(&target) {
        return Ok((target, permit));
    }
    match session.ask_connect(&known).await {
        Ok(permit) => Ok((target, permit)),
        Err(AskError::Unrecorded(error)) => Err(unrecorded(error)),
        Err(AskError::Refused { policies, why }) => {
            let refused = Refused { session: session.id(), policies, why };
            Err(Box::new(End { outcome: Outcome::Refused, error: Some(refused.sentence()) }))
        }
    }
}

/// What the client is shown: what its overlay trusts, or what nothing trusts.
fn face(session: &Session, faces: &Faces, standing: &Standing) -> Result<Arc<Face>, Box<End>> {
    let signed_by = match session.run().trusted() {
        Some(held) if standing.trust.is_trusted() => SignedBy::Trusted { held },
        _ => SignedBy::Untrusted,
    };
    faces.authority.ssh_face(signed_by, &standing.names, &standing.key).map_err(|error| {
        let error = format!("there is no host key for the client: {error}");
        Box::new(End { outcome: Outcome::Aborted, error: Some(error) })
    })
}

/// What both legs agreed on, and what the peers would have agreed on without us: never weaker unseen.
///
/// # Errors
/// When it cannot be recorded.
pub(super) fn compare(session: &Session, client: &Line, target: &Line) -> Result<(), Unrecorded> {
    let (Some(said), Some(answered)) = (client.offer(), target.offer()) else { return Ok(()) };
    let (ours_up, ours_down) = (target.said(), client.said());
    let Some(alone) = said.agree(&answered) else { return Ok(()) };
    let up = ours_up.and_then(|ours| ours.agree(&answered));
    let down = ours_down.and_then(|ours| said.agree(&ours));
    let (Some(up), Some(down)) = (up, down) else { return Ok(()) };
    let text = format!(
        "client {} with {} and {}; target {} with {} and {}",
        said.version, down.kex, down.cipher, answered.version, up.kex, up.cipher
    );
    session.record(Note { code: "ssh_agreed".into(), text })?;
    let weaker = is_post_quantum(&alone.kex) && !(is_post_quantum(&up.kex) && is_post_quantum(&down.kex));
    if weaker {
        let text = format!(
            "without crewtap the keys would have been exchanged with {}, which holds against quantum computers; {} and {} do not",
            alone.kex, down.kex, up.kex
        );
        session.record(Note { code: "ssh_kex_weaker".into(), text })?;
    }
    Ok(())
}

/// Why SSH is not opened here; none where it is.
pub(super) fn unopened(session: &Session) -> Option<&'static str> {
    match (&session.ground().ssh, session.run().trusted()) {
        (None, _) => Some("the configuration says that nothing is opened (tls = \"pass\")"),
        (Some(_), None) => Some("this run does not trust crewtap's host keys"),
        (Some(_), Some(_)) => None,
    }
}

/// Whether what is not opened may pass.
pub(super) fn may_pass(session: &Session) -> bool {
    session.mode() != Mode::Enforce
}

/// The target cannot be spoken to.
pub(super) fn unreached(why: &str) -> End {
    End { outcome: Outcome::UpstreamReset, error: Some(format!("the target does not speak SSH with us: {why}")) }
}

/// A version and a farewell in clear: what a client is told that nothing is served to.
pub(super) fn refusal(refused: &Refused) -> Vec<u8> {
    farewell(&format!("crewtap: {}", refused.sentence()))
}

/// The same with any text.
pub(super) fn farewell(text: &str) -> Vec<u8> {
    let mut payload = vec![DISCONNECT];
    payload.extend(NOT_ALLOWED.to_be_bytes());
    for text in [text, ""] {
        payload.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
        payload.extend(text.as_bytes());
    }
    // Length, padding of at least four bytes, all in all a multiple of eight (RFC 4253 section 6).
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let mut bytes = format!("{VERSION}\r\n").into_bytes();
    bytes.extend(u32::try_from(payload.len() + padding + 1).unwrap_or_default().to_be_bytes());
    bytes.push(u8::try_from(padding).unwrap_or_default());
    bytes.extend(payload);
    bytes.extend(std::iter::repeat_n(0, padding));
    bytes
}

#[allow(
    clippy::needless_pass_by_value,
    clippy::unnecessary_box_returns,
    reason = "for `map_err` of results that have it so"
)]
fn unrecorded(error: Unrecorded) -> Box<End> {
    Box::new(super::unrecorded(&error))
}
