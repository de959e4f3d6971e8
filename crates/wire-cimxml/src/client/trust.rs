//! Which servers are believed over HTTPS.

use super::ClientError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// Which servers are believed over HTTPS. Over plain HTTP it has no meaning.
#[derive(Clone, Debug)]
pub enum Trust {
    /// None: HTTPS is refused.
    Nobody,
    /// Servers whose certificate one of these authorities has signed for the name in the URL.
    Authorities(Vec<CertificateDer<'static>>),
    /// The server that has exactly this certificate, whatever its name: for the certificate that a
    /// service makes for itself.
    Certificate(CertificateDer<'static>),
}

impl Trust {
    /// The authorities in a PEM file.
    pub fn authorities_file(path: &Path) -> Result<Trust, ClientError> {
        Ok(Trust::Authorities(read(path)?))
    }

    /// The one certificate in a PEM file.
    pub fn certificate_file(path: &Path) -> Result<Trust, ClientError> {
        let mut certificates = read(path)?;
        match (certificates.pop(), certificates.is_empty()) {
            (Some(certificate), true) => Ok(Trust::Certificate(certificate)),
            _ => Err(refuse(format!(
                "{} must hold one certificate",
                path.display()
            ))),
        }
    }

    pub(super) fn client_config(self) -> Result<ClientConfig, ClientError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse(error.to_string()))?;
        match self {
            Trust::Nobody => Err(refuse("name an authority or the server's certificate")),
            Trust::Authorities(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots
                        .add(authority)
                        .map_err(|error| refuse(error.to_string()))?;
                }
                Ok(builder.with_root_certificates(roots).with_no_client_auth())
            }
            Trust::Certificate(certificate) => Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned {
                    certificate,
                    provider,
                }))
                .with_no_client_auth()),
        }
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let unreadable =
        |error: rustls::pki_types::pem::Error| refuse(format!("{}: {error}", path.display()));
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(refuse(format!("{} holds no certificate", path.display())));
    }
    Ok(certificates)
}

fn refuse(reason: impl Into<String>) -> ClientError {
    ClientError::Trust {
        reason: reason.into(),
    }
}

/// Believes one certificate. Its key is still proved in the handshake; its name and its dates say
/// nothing that knowing the certificate itself does not.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        let reason = "the server has another certificate than the one that is trusted";
        Err(rustls::Error::General(reason.to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
