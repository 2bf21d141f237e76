//! How a session comes to its target.
//!
//! Never chooses where: the permit says it.

use crewtap_core::bodies::Bypass;
use tokio::net::TcpStream;

use super::Session;
use crate::dial::{self, DialError};
use crate::gate::Permit;
use crate::runs::Counts;

impl Session {
    /// Connects to the target that the permit is for.
    ///
    /// # Errors
    /// When the target cannot be reached, or is crewtap itself (which is on record as a bypass).
    pub async fn dial(&self, permit: &Permit) -> Result<TcpStream, DialError> {
        self.settled().await.map_err(DialError::Unrecorded)?;
        if self.behind.get().is_some() {
            return self.through.take().ok_or(DialError::Behind);
        }
        let address = permit.target().address;
        if self.run.namespace.is_ours(address) {
            let bypass = Bypass {
                kind: "self_connect".into(),
                refused: true,
                address: Some(address),
                pid: Some(self.origin.pid),
                detail: "a captured process tried to reach crewtap's own listener".into(),
            };
            Counts::add(&self.run.counts.bypasses);
            self.append(bypass.into(), &[]).map_err(DialError::Unrecorded)?;
            return Err(DialError::Ourselves);
        }
        let stream = dial::connect(&self.run.namespace, address, &self.origin).await?;
        self.dialled_from.set(stream.local_addr().ok());
        Ok(stream)
    }
}
