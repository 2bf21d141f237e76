//! Whether a target's certificate proves who it is, and what is wrong with it where it does not.
//!
//! Never fails a handshake: the client's own policy decides what a defect means, so all defects that can be told apart
//! are told.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::roots::Anchors;
use crewtap_core::wire::certificate::Certificate;

/// What the target's certificate proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Validity {
    /// It is valid, for the name that was asked for, up to a root that the process trusts.
    Verified,
    /// It has these defects, at least one.
    Unverified(Vec<Defect>),
}

/// One thing that is wrong with a target's certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Its last second is over.
    Expired,
    /// Its first second is to come.
    NotYetValid,
    /// It is for other names.
    WrongName,
    /// It leads to no root that the process trusts: its issuer is unknown, or an intermediate is missing.
    UnknownIssuer,
    /// It leads to a root, but by a certificate that has expired or is not valid yet.
    IssuerExpired,
    /// Anything else, in words.
    Other(String),
}

impl Defect {
    /// A word for the record.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongName => "wrong_name",
            Self::UnknownIssuer => "unknown_issuer",
            Self::IssuerExpired => "issuer_expired",
            Self::Other(_) => "other",
        }
    }
}

impl Validity {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Verified)
    }

    /// Its issuer vouches for it, whatever its names and dates: a client that checks the chain and nothing else takes it.
    #[must_use]
    pub fn has_known_issuer(&self) -> bool {
        let own = [Defect::Expired, Defect::NotYetValid, Defect::WrongName];
        match self {
            Self::Verified => true,
            Self::Unverified(defects) => defects.iter().all(|defect| own.contains(defect)),
        }
    }

    /// The defects; none where it is verified.
    #[must_use]
    pub fn defects(&self) -> &[Defect] {
        match self {
            Self::Verified => &[],
            Self::Unverified(defects) => defects,
        }
    }
}

/// Judges `leaf`, which says what `facts` holds, with the certificates that came with it.
pub(super) fn judge(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    facts: Option<&Certificate>,
    name: &ServerName<'_>,
    anchors: &Anchors,
    now: UnixTime,
) -> Validity {
    let mut defects = Vec::new();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    // The leaf's own dates are told by themselves, and the chain is looked at for a time at which the leaf is valid.
    let mut then = now;
    if let Some(facts) = facts {
        if seconds > facts.not_after {
            defects.push(Defect::Expired);
        } else if seconds < facts.not_before {
            defects.push(Defect::NotYetValid);
        }
        let clamped = seconds.min(facts.not_after).max(facts.not_before);
        then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(clamped).unwrap_or(0)));
    }
    match EndEntityCert::try_from(leaf) {
        Ok(parsed) => {
            // A certificate that is itself among the roots needs no issuer: so companies trust self-signed servers.
            if !anchors.contains(leaf) {
                defects.extend(chain(&parsed, intermediates, anchors, then));
            }
            if parsed.verify_is_valid_for_subject_name(name).is_err() {
                defects.push(Defect::WrongName);
            }
        }
        Err(error) => defects.push(Defect::Other(format!("certificate cannot be read: {error:?}"))),
    }
    if defects.is_empty() { Validity::Verified } else { Validity::Unverified(defects) }
}

/// What is wrong with the way from the leaf to a root.
fn chain(
    leaf: &EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &Anchors,
    then: UnixTime,
) -> Option<Defect> {
    let result = leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        anchors.as_slice(),
        intermediates,
        then,
        KeyUsage::server_auth(),
        None,
        None,
    );
    match result {
        Ok(_) => None,
        // A root of the same name and another key, as a company's next one: it does not vouch either.
        Err(Error::UnknownIssuer | Error::InvalidSignatureForPublicKey) => Some(Defect::UnknownIssuer),
        Err(Error::CertExpired { .. } | Error::CertNotValidYet { .. }) => Some(Defect::IssuerExpired),
        Err(other) => Some(Defect::Other(format!("{other:?}"))),
    }
}
