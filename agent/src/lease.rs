//! Credentials in use: what [`Session::lease`] gives a driver that may log in to a target.
//!
//! Never dials and never decides: a lease needs the gate's permit, the catalog's entry for the permit's target, and what
//! that entry demands to be proven. Each lease, and each that was withheld, is on record before the driver has the answer.

use crewtap_core::bodies::{Injected, Note};
use crewtap_core::policy::catalog::{Channel, Credential, Found, Withheld};
use crewtap_core::secret::Secret;

use crate::gate::Permit;
use crate::recorder::Unrecorded;
use crate::session::Session;
use crate::vault::{self, VaultError};

/// A credential in use for one session; the secret is wiped with it.
#[derive(Debug)]
pub struct Lease {
    target: String,
    user: String,
    secret: Option<Secret>,
}

impl Lease {
    /// Name of the target in the catalog.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Who to log in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What to log in with; none for a user who needs nothing, or logs in with a certificate.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}

/// Why there is no lease although the catalog has a credential. Names places on the host: for the record and the agent's
/// log, not for the captured process.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// What the entry demands is not proven.
    #[error(transparent)]
    Withheld(#[from] Withheld),
    /// The secret cannot be had.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

impl LeaseError {
    /// The word that the record has for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Withheld(_) => "credential_withheld",
            Self::Vault(_) => "credential_unavailable",
            Self::Unrecorded(_) => "unrecorded",
        }
    }
}

impl Session {
    /// What the catalog says of the permit's target.
    #[must_use]
    pub fn catalogued<'a>(&'a self, permit: &'a Permit, protocol: &str) -> Option<Found<'a>> {
        let target = permit.target();
        self.catalog().find(target.address, target.name.as_ref(), protocol)
    }

    /// The credential for the permit's target, to be used on `channel`; none where the catalog has none, and the client's own
    /// log-in is to pass. Read anew each time.
    ///
    /// # Errors
    /// When the catalog has a credential that must not be used or cannot be had. The session must not go on as if there were
    /// none: the client's own log-in would go to whoever has answered.
    pub async fn lease(
        &self,
        permit: &Permit,
        protocol: &str,
        channel: Channel<'_>,
    ) -> Result<Option<Lease>, LeaseError> {
        let Some(found) = self.catalogued(permit, protocol) else { return Ok(None) };
        let Some(credential) = &found.entry.credential else { return Ok(None) };
        match draw(&found, credential, channel).await {
            Ok(lease) => {
                let kept = credential.secret.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
                let user = lease.user.clone();
                self.record(Injected { target: lease.target.clone(), credential: kept, user })?;
                Ok(Some(lease))
            }
            Err(error) => {
                self.record(Note { code: error.code().into(), text: error.to_string() })?;
                Err(error)
            }
        }
    }
}

async fn draw(found: &Found<'_>, credential: &Credential, channel: Channel<'_>) -> Result<Lease, LeaseError> {
    found.may_lease_on(channel)?;
    let secret = match credential.secret.clone() {
        // A slow file system must not hold up the other sessions of the thread.
        Some(source) => {
            Some(tokio::task::spawn_blocking(move || vault::read(&source)).await.unwrap_or_else(|error| {
                let path = "of the catalog".into();
                Err(VaultError::Read { path, source: std::io::Error::other(error) })
            })?)
        }
        None => None,
    };
    Ok(Lease { target: found.entry.name.clone(), user: credential.user.clone(), secret })
}

#[cfg(test)]
mod tests;
