//! The log-in to a PostgreSQL target, from its first `Authentication` request until it has let us in or refused.
//!
//! Owns the answers to trust, cleartext, MD5, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS. Never sends the startup packet, never
//! reads a byte behind the last message of the log-in, and never lets a password go in clear where others could read it.

use std::future::poll_fn;
use std::io;

use crewtap_core::limits::{LOGIN_MESSAGE_BYTES_MAX, LOGIN_MESSAGES_MAX, LOGIN_TIMEOUT};
use crewtap_core::secret::Secret;
use crewtap_core::wire::end_point::end_point;
use crewtap_core::wire::postgres::frame::{BadLength, HEADER_BYTES, Header};
use crewtap_core::wire::postgres::message::{Authentication, Mechanisms};
use crewtap_core::wire::postgres::reply;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use zeroize::Zeroizing;

use crate::leg::{Leg, Read};

/// What crewtap logs in with, and what it knows of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Login<'l> {
    /// The user of the startup packet.
    pub user: &'l str,
    /// The password, when there is one.
    pub password: Option<&'l Secret>,
    /// The target's certificate, DER; none where the leg is not TLS.
    pub certificate: Option<&'l [u8]>,
    /// The password itself may go to the target, where it asks for it: inside of TLS, to one that has proven itself.
    pub readable: bool,
}

/// What the target said in the end.
#[derive(PartialEq, Eq, Debug)]
pub enum Answer {
    /// It let us in: `AuthenticationOk` was read, and nothing behind it.
    Admitted {
        /// Whole messages that came before: notices, and `NegotiateProtocolVersion`.
        before: Vec<Vec<u8>>,
        /// How we logged in.
        method: &'static str,
    },
    /// It refused: its `ErrorResponse`, whole, as the client is to see it.
    Refused(Vec<u8>),
}

/// A log-in that came to no answer.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The connection failed.
    #[error("the connection to the target failed while logging in: {0}")]
    Io(#[from] io::Error),
    /// The target ended the connection.
    #[error("the target ended the connection while logging in: see its own log")]
    Ended,
    /// It took too long.
    #[error("the target has not let us in within {} s: see whether it is overloaded", LOGIN_TIMEOUT.as_secs())]
    Timeout,
    /// It sent something that no target sends.
    #[error("the target sent {0} while logging in: is it a PostgreSQL server?")]
    Unexpected(String),
    /// It asks for what crewtap cannot do.
    #[error(
        "the target wants {0} from {1}, which crewtap cannot answer: let it ask for scram-sha-256 in its pg_hba.conf"
    )]
    Method(String, String),
    /// There is no password to answer with.
    #[error("the target asks for a password of {0}, and there is none: give the target a secret in targets.toml")]
    NoPassword(String),
    /// The password would be readable on the way, or by who knows whom.
    #[error(
        "the target asks for the password of {0} in clear, and has not proven itself by TLS: turn TLS on there and name its ca \
         or pin its certificate in targets.toml, or let it ask for scram-sha-256"
    )]
    Readable(String),
    /// The target's proof is wrong or missing, or the password of another user was used.
    #[error("the target has not proven that it knows the password of {user}: {why}")]
    Unproven {
        /// The user.
        user: String,
        /// What was wrong.
        why: String,
    },
}

/// How far SCRAM has come.
enum Scram {
    NotAsked,
    First(ScramSha256),
    Final(ScramSha256),
    Proven,
}

/// Logs in: to be called when the startup packet was sent. `asked` is the target's first message, where it was read already.
///
/// # Errors
/// When the connection fails, the target sends what it should not, or what it wants must not or cannot be given.
pub async fn authenticate(leg: &Leg, login: &Login<'_>, asked: Option<Vec<u8>>) -> Result<Answer, LoginError> {
    tokio::time::timeout(LOGIN_TIMEOUT, converse(leg, login, asked)).await.unwrap_or(Err(LoginError::Timeout))
}

async fn converse(leg: &Leg, login: &Login<'_>, mut asked: Option<Vec<u8>>) -> Result<Answer, LoginError> {
    let mut scram = Scram::NotAsked;
    let (mut before, mut answered, mut method) = (Vec::new(), false, "trust");
    for _ in 0..LOGIN_MESSAGES_MAX {
        let message = match asked.take() {
            Some(asked) => Zeroizing::new(asked),
            None => read_message(leg).await?,
        };
        match message.first() {
            Some(b'E') => return Ok(Answer::Refused(message.to_vec())),
            Some(b'N' | b'v') => {
                before.push(message.to_vec());
                continue;
            }
            Some(b'R') => {}
            other => return Err(unexpected(other.copied())),
        }
        let body = message.get(HEADER_BYTES..).unwrap_or_default();
        let asked = Authentication::read(body).map_err(|error| LoginError::Unexpected(error.to_string()))?;
        let reply = match asked {
            Authentication::Ok => {
                finished(&scram, login)?;
                return Ok(Answer::Admitted { before, method });
            }
            Authentication::Sasl(mechanisms) => {
                let (reply, by) = begin(&mut scram, mechanisms, login)?;
                method = by;
                reply
            }
            Authentication::SaslContinue(challenge) => prove(&mut scram, challenge, login).await?,
            Authentication::SaslFinal(proof) => {
                verify(&mut scram, proof, login)?;
                continue;
            }
            // Whoever has had one answer cannot ask for a weaker one.
            _ if answered => return Err(LoginError::Unexpected("a second request for the password".into())),
            other => {
                method = if matches!(other, Authentication::Md5Password { .. }) { "md5" } else { "password" };
                password(other, login)?
            }
        };
        answered = true;
        send(leg, reply.expose()).await?;
    }
    Err(LoginError::Unexpected(format!("more than {LOGIN_MESSAGES_MAX} messages")))
}

/// One whole message, and nothing behind it: what follows the log-in belongs to the relay.
async fn read_message(leg: &Leg) -> Result<Zeroizing<Vec<u8>>, LoginError> {
    let mut message = Zeroizing::new(vec![0; HEADER_BYTES]);
    fill(leg, &mut message).await?;
    let header =
        Header::read(&message).map_err(|BadLength(len)| LoginError::Unexpected(format!("{len} as a length")))?;
    let len = header.map_or(0, |header| header.len);
    if !(HEADER_BYTES..=LOGIN_MESSAGE_BYTES_MAX).contains(&len) {
        return Err(LoginError::Unexpected(format!("a message of {len} bytes")));
    }
    message.resize(len, 0);
    fill(leg, message.get_mut(HEADER_BYTES..).unwrap_or_default()).await?;
    Ok(message)
}

async fn fill(leg: &Leg, bytes: &mut [u8]) -> Result<(), LoginError> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match poll_fn(|cx| leg.poll_read(cx, rest)).await? {
            Read::Bytes(read) => done += read,
            Read::End(_) => return Err(LoginError::Ended),
        }
    }
    Ok(())
}

async fn send(leg: &Leg, message: &[u8]) -> Result<(), LoginError> {
    let mut rest = message;
    while !rest.is_empty() {
        match leg.write(rest).await? {
            0 => return Err(LoginError::Ended),
            written => rest = rest.get(written..).unwrap_or_default(),
        }
    }
    Ok(leg.flush().await?)
}

fn unexpected(tag: Option<u8>) -> LoginError {
    let tag = tag.map_or_else(|| "nothing".to_owned(), |tag| format!("message {:?}", char::from(tag)));
    LoginError::Unexpected(tag)
}

/// The answer to a request for the password itself, or for its MD5 digest.
fn password(asked: Authentication<'_>, login: &Login<'_>) -> Result<Secret, LoginError> {
    let user = || login.user.to_owned();
    match asked {
        Authentication::CleartextPassword if !login.readable => Err(LoginError::Readable(user())),
        Authentication::CleartextPassword => {
            let password = secret(login)?;
            if password.contains(&0) {
                return Err(LoginError::Method("a password without a NUL byte".into(), user()));
            }
            Ok(reply::password(password))
        }
        Authentication::Md5Password { salt } => {
            let digest = Zeroizing::new(md5_hash(login.user.as_bytes(), secret(login)?, salt));
            Ok(reply::password(digest.as_bytes()))
        }
        other => Err(LoginError::Method(method(other), user())),
    }
}

/// Chooses the mechanism: with channel binding wherever both sides can.
fn begin(scram: &mut Scram, offered: Mechanisms<'_>, login: &Login<'_>) -> Result<(Secret, &'static str), LoginError> {
    if !matches!(scram, Scram::NotAsked) {
        return Err(LoginError::Unexpected("a second request for SASL".into()));
    }
    let bound = login.certificate.and_then(end_point);
    let (mechanism, binding) = match bound {
        Some(digest) if offered.has(SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(digest))
        }
        _ if !offered.has(SCRAM_SHA_256) => {
            let names: Vec<_> = offered.iter().map(String::from_utf8_lossy).collect();
            return Err(LoginError::Method(format!("SASL with {}", names.join(" ")), login.user.to_owned()));
        }
        // Says that we could have: a server that can as well knows then that somebody has taken its offer away.
        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    let first = ScramSha256::new(secret(login)?, binding);
    let reply = reply::sasl_initial(mechanism, first.message());
    *scram = Scram::First(first);
    let by = if mechanism == SCRAM_SHA_256_PLUS { "scram-sha-256-plus" } else { "scram-sha-256" };
    Ok((reply, by))
}

/// The proof that we know the password, for the target's challenge.
async fn prove(scram: &mut Scram, challenge: &[u8], login: &Login<'_>) -> Result<Secret, LoginError> {
    let Scram::First(mut first) = std::mem::replace(scram, Scram::NotAsked) else {
        return Err(LoginError::Unexpected("a challenge out of turn".into()));
    };
    let challenge = challenge.to_vec();
    // Thousands of digests, as many as the target asks for: they must not hold up the other sessions of the thread.
    let proving = tokio::task::spawn_blocking(move || first.update(&challenge).map(|()| first));
    let proven = proving.await.map_err(io::Error::other)?.map_err(|error| unproven(login, &error))?;
    let reply = reply::sasl_response(proven.message());
    *scram = Scram::Final(proven);
    Ok(reply)
}

/// The target's own proof that it knows the password.
fn verify(scram: &mut Scram, body: &[u8], login: &Login<'_>) -> Result<(), LoginError> {
    let Scram::Final(mut last) = std::mem::replace(scram, Scram::NotAsked) else {
        return Err(LoginError::Unexpected("a proof out of turn".into()));
    };
    last.finish(body).map_err(|error| unproven(login, &error))?;
    *scram = Scram::Proven;
    Ok(())
}

/// Who has begun SCRAM must have proven itself before it may let us in.
fn finished(scram: &Scram, login: &Login<'_>) -> Result<(), LoginError> {
    match scram {
        Scram::NotAsked | Scram::Proven => Ok(()),
        Scram::First(_) | Scram::Final(_) => {
            let why = "it let us in without a proof of its own".to_owned();
            Err(LoginError::Unproven { user: login.user.to_owned(), why })
        }
    }
}

fn unproven(login: &Login<'_>, error: &io::Error) -> LoginError {
    LoginError::Unproven { user: login.user.to_owned(), why: error.to_string() }
}

fn secret<'l>(login: &Login<'l>) -> Result<&'l [u8], LoginError> {
    login.password.map(Secret::expose).ok_or_else(|| LoginError::NoPassword(login.user.to_owned()))
}

fn method(asked: Authentication<'_>) -> String {
    match asked {
        Authentication::Other(2) => "Kerberos V5".into(),
        Authentication::Gss | Authentication::GssContinue(_) => "GSSAPI".into(),
        Authentication::Sspi => "SSPI".into(),
        Authentication::Other(kind) => format!("authentication {kind}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests;
