//! Who is at the other end of a connection, how it got here, and what it has proved.

use crate::authentication::Identity;
use crate::body::{self, BodyError, ReceivedBody};
use crate::limits::HttpLimits;
use crate::server::Shared;
use crate::x509::Fingerprint;
use hyper::body::Incoming;
use hyper::{HeaderMap, header};
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How a connection got here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP from elsewhere, as it is.
    Plain,
    /// TCP from this host, as it is.
    Loopback,
    /// TLS.
    Tls {
        /// Our certificate.
        ours: Option<Arc<CertificateDer<'static>>>,
        /// The client's, whose key it has.
        theirs: Option<Fingerprint>,
    },
    /// A Unix socket.
    Unix,
}

/// The other end of a connection.
pub struct Peer {
    address: String,
    transport: Transport,
    trusted: Option<Identity>,
    verified: Mutex<Option<Verified>>,
    shared: Arc<Shared>,
}

/// Credentials that were good a moment ago.
struct Verified {
    authorization: String,
    identity: Identity,
    at: Instant,
}

impl Peer {
    /// Somebody who must say who they are.
    pub(crate) fn remote(address: String, transport: Transport, shared: Arc<Shared>) -> Self {
        Peer {
            address,
            transport,
            trusted: None,
            verified: Mutex::new(None),
            shared,
        }
    }

    /// A process of this host; the kernel may vouch for its user.
    pub(crate) fn local(trusted: Option<Identity>, shared: Arc<Shared>) -> Self {
        Peer {
            trusted,
            ..Self::remote("local".to_owned(), Transport::Unix, shared)
        }
    }

    /// Its address without a port, or `local`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether nobody else can read what is said: TLS, or nothing leaves this host.
    pub fn is_private(&self) -> bool {
        self.transport != Transport::Plain
    }

    /// The certificate that the client has seen, when the connection is TLS and it is known.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.transport {
            Transport::Tls { ours, .. } => ours.as_deref(),
            _ => None,
        }
    }

    /// Whether the connection is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls { .. })
    }

    /// The certificate that the client has sent in the TLS handshake, where it was asked for one. It
    /// has proved to have the key; nothing else is known of it.
    pub fn client_certificate(&self) -> Option<&Fingerprint> {
        match &self.transport {
            Transport::Tls { theirs, .. } => theirs.as_ref(),
            _ => None,
        }
    }

    /// Counts a logon that has failed in a way of the protocol's own, and waits as long as those wait
    /// whose passwords were wrong.
    pub async fn logon_failed(&self) {
        self.shared.gate.failed(&self.address).await;
    }

    /// What the server may use.
    pub fn limits(&self) -> &HttpLimits {
        &self.shared.limits
    }

    /// Who it is: by the kernel's word, or by the Basic credentials of a request. Credentials that
    /// were good hold for a while, so that not every request costs a password hash.
    pub async fn identify(&self, headers: &HeaderMap) -> Option<Identity> {
        if let Some(identity) = &self.trusted {
            return Some(identity.clone());
        }
        let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        if let Some(identity) = self.remembered(authorization) {
            return Some(identity);
        }
        let gate = &self.shared.gate;
        let identity = gate.verify(&self.address, authorization).await?;
        *self.memory() = Some(Verified {
            authorization: authorization.to_owned(),
            identity: identity.clone(),
            at: Instant::now(),
        });
        Some(identity)
    }

    fn remembered(&self, authorization: &str) -> Option<Identity> {
        let memory = self.memory();
        let verified = memory.as_ref()?;
        let fresh = verified.at.elapsed() < self.shared.limits.credentials_time;
        (fresh && verified.authorization == authorization).then(|| verified.identity.clone())
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Option<Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a request's body within its own limit, the one for all bodies together, and its time.
    pub async fn read_body(
        &self,
        headers: &HeaderMap,
        body: &mut Incoming,
    ) -> Result<ReceivedBody, BodyError> {
        body::read(&self.shared, headers, body).await
    }
}
