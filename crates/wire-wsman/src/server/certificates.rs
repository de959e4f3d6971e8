//! Logons by client certificates, the security profile `https/mutual` (DSP0226 annex C; MS-WSMV
//! 3.1.4.1.29.2). TLS has proved that the client has a certificate's key; a request says by its
//! `Authorization` that it is meant as a logon; the program knows whose it is.

use super::session::Session;
use http_server::Identity;
use http_server::x509::Fingerprint;
use std::sync::atomic::Ordering;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What the names of security profiles begin with.
pub(super) const PROFILES: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/";
/// What clients send as `Authorization`, and the service offers.
pub(super) const PROFILE: &str =
    "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual";

/// Why a logon by a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// The client has sent none in the TLS handshake, or there was no TLS.
    #[error("This is to be a logon by a client certificate, and none came with the connection")]
    Missing,
    /// It is nobody's.
    #[error("The certificate belongs to no account")]
    Unknown,
    /// Its time has not come.
    #[error("The certificate is not valid before {}", shown(.0))]
    NotYetValid(OffsetDateTime),
    /// Its time is over.
    #[error("The certificate was valid until {}", shown(.0))]
    Expired(OffsetDateTime),
    /// The accounts cannot be asked; the log says why.
    #[error("Whose certificate this is cannot be looked up at the moment")]
    Unavailable,
}

fn shown(time: &OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Knows whose certificates are whose.
pub trait Certificates: Send + Sync + 'static {
    /// The account that a certificate stands for, and what it may do now. Asked at every request, so
    /// that what has changed holds on connections that are open.
    fn holder(&self, certificate: &Fingerprint) -> Result<Identity, CertificateRefusal>;

    /// A connection has been logged on.
    fn accepted(&self, peer: &str, certificate: &Fingerprint, account: &str);

    /// A logon has failed.
    fn refused(&self, peer: &str, certificate: Option<&Fingerprint>, refusal: &CertificateRefusal);
}

impl Session {
    /// Who it is by the certificate of its connection. Failures are told, and slowed down.
    pub(super) async fn certificate_holder(
        &self,
        door: &dyn Certificates,
    ) -> Result<Identity, CertificateRefusal> {
        let certificate = self.peer.client_certificate();
        let holder = certificate
            .ok_or(CertificateRefusal::Missing)
            .and_then(|certificate| Ok((certificate, door.holder(certificate)?)));
        match holder {
            Ok((certificate, identity)) => {
                if !self.certificate_told.swap(true, Ordering::Relaxed) {
                    door.accepted(self.peer.address(), certificate, &identity.user);
                }
                Ok(identity)
            }
            Err(refusal) => {
                door.refused(self.peer.address(), certificate, &refusal);
                self.peer.logon_failed().await;
                Err(refusal)
            }
        }
    }
}
