//! Client certificates in the TLS handshake: asked for, not insisted on. What is verified here is
//! that the client has the key of the certificate that it sends. Whom a certificate stands for, and
//! whether it still holds, is the protocol's and the program's to say, by its fingerprint: no
//! authority vouches for it, so none is named to clients.

use crate::x509::Summary;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;

/// Bytes of all certificates that a client may send. They are kept as long as its TLS session can be
/// resumed, and anybody can send some.
pub const LARGEST_CERTIFICATES: usize = 16 << 10;

/// Has TLS ask clients for a certificate. Those without one are let through, and those with any
/// whose key they have; [`Peer::client_certificate`](crate::Peer::client_certificate) tells which.
pub fn ask_for_certificates(provider: Arc<CryptoProvider>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Asking { provider })
}

/// Whether the handshake can prove that somebody has the key of such a certificate. The length of an
/// RSA key is not looked at.
pub fn can_be_proved(provider: &CryptoProvider, certificate: &Summary) -> bool {
    let known = provider.signature_verification_algorithms.all.iter();
    known
        .map(|it| it.public_key_alg_id())
        .any(|it| it.as_ref() == certificate.key_algorithm)
}

#[derive(Debug)]
struct Asking {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let others: usize = intermediates.iter().map(|it| it.len()).sum();
        if others.saturating_add(end_entity.len()) > LARGEST_CERTIFICATES {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        ParsedCertificate::try_from(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
