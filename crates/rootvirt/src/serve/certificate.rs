//! The TLS certificate: made at the first start, kept in the data directory.

use crate::failure::{Failure, chain};
use http_server::Tls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Whether TLS asks clients for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// It asks; clients need not have one.
    Asked,
    /// It does not.
    NotAsked,
}

/// Loads `DATA/tls/certificate.pem` and `key.pem`, making a self-signed pair if there is none.
/// To use a certificate of one's own, put it there under these names.
pub fn server_config(
    data_dir: &Path,
    host_name: &str,
    clients: ClientCertificates,
) -> Result<Tls, Failure> {
    let directory = data_dir.join("tls");
    if !directory.join(CERTIFICATE).exists() || !directory.join(KEY).exists() {
        make(&directory, host_name).map_err(|error| {
            Failure::new(format!(
                "No TLS certificate could be made in {directory:?}: {error}"
            ))
        })?;
    }
    load(&directory, clients).map_err(|error| {
        Failure::new(format!(
            "The TLS certificate in {directory:?} cannot be used: {error}"
        ))
        .remedy(format!(
            "Put a PEM certificate chain and its key there as {CERTIFICATE} and {KEY}, or \
                 remove both to have a self-signed pair made."
        ))
    })
}

fn make(directory: &Path, host_name: &str) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(io)?;
    let mut names = vec![host_name.to_owned(), "localhost".to_owned()];
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    let pair = rcgen::generate_simple_self_signed(names).map_err(|error| chain(&error))?;
    // The key first: a certificate without its key would be taken for a complete pair.
    write(directory, KEY, pair.signing_key.serialize_pem().as_bytes()).map_err(io)?;
    write(directory, CERTIFICATE, pair.cert.pem().as_bytes()).map_err(io)?;
    fs::File::open(directory)
        .and_then(|folder| folder.sync_all())
        .map_err(io)
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = directory.join(format!(".{name}.tmp"));
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))
}

fn load(directory: &Path, clients: ClientCertificates) -> Result<Tls, String> {
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(directory.join(CERTIFICATE))
            .and_then(Iterator::collect)
            .map_err(|error| format!("{CERTIFICATE}: {error}"))?;
    let key = PrivateKeyDer::from_pem_file(directory.join(KEY))
        .map_err(|error| format!("{KEY}: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = certificates.first().cloned();
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        ClientCertificates::Asked => {
            builder.with_client_cert_verifier(http_server::ask_for_certificates(provider))
        }
        ClientCertificates::NotAsked => builder.with_no_client_auth(),
    };
    let config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| error.to_string())?;
    Ok(Tls {
        config: Arc::new(config),
        certificate,
    })
}
