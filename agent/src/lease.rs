//! Credentials in use: what [`Session::lease`] gives a driver that may log in to a target.
//!
//! Never dials and never decides: a lease needs the gate's permit, the catalog's entry for the permit's target, and what
//! that entry demands to be proven. Each lease, and each that was withheld, is on record before the driver has the answer.

use std::path::PathBuf;
use std::sync::Arc;

use crewtap_core::bodies::{Injected, Note};
use crewtap_core::policy::catalog::{Channel, Credential, Form, Found, Injection, Source, Withheld};
use crewtap_core::secret::Secret;
use russh::keys::{Certificate, PrivateKey, decode_secret_key, load_openssh_certificate};
use zeroize::Zeroizing;

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
    key: Option<Arc<LeasedKey>>,
}

/// A private key in use for one session; wiped with it.
#[derive(Debug)]
pub struct LeasedKey {
    key: Secret,
    passphrase: Option<Secret>,
    certificate: Option<PathBuf>,
    place: String,
}

impl LeasedKey {
    /// The key, and the certificate that belongs to it.
    ///
    /// # Errors
    /// When one of them cannot be read; the text names places, never a content.
    pub async fn open(self: &Arc<Self>) -> Result<(PrivateKey, Option<Certificate>), VaultError> {
        let (place, key) = (self.place.clone(), Arc::clone(self));
        // A file, and a tenth of a second for an encrypted key.
        let opened = tokio::task::spawn_blocking(move || key.read()).await;
        opened.unwrap_or_else(|error| Err(VaultError::Failed { place, why: error.to_string() }))
    }

    fn read(&self) -> Result<(PrivateKey, Option<Certificate>), VaultError> {
        let failed = |why: &str| VaultError::Failed { place: self.place.clone(), why: why.to_owned() };
        let text = |secret: &Secret| -> Result<Zeroizing<String>, VaultError> {
            let text = std::str::from_utf8(secret.expose()).map_err(|_| failed("it is no text"))?;
            Ok(Zeroizing::new(text.to_owned()))
        };
        let passphrase = self.passphrase.as_ref().map(text).transpose()?;
        let key = decode_secret_key(&text(&self.key)?, passphrase.as_ref().map(|text| text.as_str()));
        let key = key.map_err(|_| {
            failed("it is no private key, or encrypted with another `passphrase`; check it with ssh-keygen -y -f FILE")
        })?;
        let Some(path) = &self.certificate else { return Ok((key, None)) };
        let certificate = load_openssh_certificate(path);
        let certificate =
            certificate.map_err(|_| failed("its `certificate` cannot be read: compare ssh-keygen -L -f"))?;
        if certificate.public_key() != key.public_key().key_data() {
            return Err(failed("its `certificate` is for another key"));
        }
        Ok((key, Some(certificate)))
    }
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

    /// The private key to log in with, in place of a secret; for SSH.
    #[must_use]
    pub fn key(&self) -> Option<&Arc<LeasedKey>> {
        self.key.as_ref()
    }
}

/// A secret that goes into the HTTP requests of one session; wiped with it.
#[derive(Debug)]
pub struct LeasedInjection {
    /// Where it goes.
    pub form: Form,
    /// The secret.
    pub secret: Secret,
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
        let found = self.catalog().find(target.address, target.name.as_ref(), protocol)?;
        if !self.is_behind() {
            return Some(found);
        }
        let found = found.behind();
        found.name().is_some().then_some(found)
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
                let kept = credential.place().map_or_else(|| "none".to_owned(), ToString::to_string);
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

    /// What the catalog puts into HTTP requests to the permit's target, to be sent on `channel`. Read anew each time.
    ///
    /// # Errors
    /// When the catalog has a credential that must not be used or cannot be had. Then no request may be sent: the client's own
    /// credentials would go to whoever has answered.
    pub async fn lease_injections(
        &self,
        permit: &Permit,
        channel: Channel<'_>,
    ) -> Result<Vec<LeasedInjection>, LeaseError> {
        let Some(found) = self.catalogued(permit, "http") else { return Ok(Vec::new()) };
        let mut leased = Vec::new();
        for injection in &found.entry.injections {
            match draw_injection(&found, injection, channel).await {
                Ok(lease) => {
                    let (target, credential) = (found.entry.name.clone(), injection.secret.to_string());
                    self.record(Injected { target, credential, user: injection.form.to_string() })?;
                    leased.push(lease);
                }
                Err(error) => {
                    self.record(Note { code: error.code().into(), text: error.to_string() })?;
                    return Err(error);
                }
            }
        }
        Ok(leased)
    }
}

async fn draw(found: &Found<'_>, credential: &Credential, channel: Channel<'_>) -> Result<Lease, LeaseError> {
    found.may_lease_on(channel)?;
    let secret = match &credential.secret {
        Some(source) => Some(secret_of(source).await?),
        None => None,
    };
    let key = match &credential.key {
        Some(file) => Some(Arc::new(LeasedKey {
            key: secret_of(&file.key).await?,
            passphrase: match &file.passphrase {
                Some(source) => Some(secret_of(source).await?),
                None => None,
            },
            certificate: file.certificate.clone(),
            place: file.key.to_string(),
        })),
        None => None,
    };
    Ok(Lease { target: found.entry.name.clone(), user: credential.user.clone(), secret, key })
}

async fn draw_injection(
    found: &Found<'_>,
    injection: &Injection,
    channel: Channel<'_>,
) -> Result<LeasedInjection, LeaseError> {
    found.may_send_on(channel)?;
    let secret = secret_of(&injection.secret).await?;
    Ok(LeasedInjection { form: injection.form.clone(), secret })
}

/// A slow file system, program or store must not hold up the other sessions of the thread.
async fn secret_of(source: &Source) -> Result<Secret, VaultError> {
    let place = source.to_string();
    let source = source.clone();
    let read = tokio::task::spawn_blocking(move || vault::read(&source)).await;
    read.unwrap_or_else(|error| Err(VaultError::Failed { place, why: error.to_string() }))
}

#[cfg(test)]
mod tests;
