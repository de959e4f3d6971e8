//! Certificates of accounts: read from files, and shown.

use crate::cli::Format;
use crate::failure::Failure;
use crate::output::Rows;
use http_server::x509::{self, Fingerprint};
use http_server::{LARGEST_CERTIFICATES, can_be_proved};
use machines::accounts::AccountCertificate;
use machines::model::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use serde_json::{Map, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Bytes of a file that are looked at.
const LARGEST_FILE: u64 = 256 << 10;

/// The first certificate in a PEM file.
pub fn read(file: &Path) -> Result<AccountCertificate, Failure> {
    let wrong = |why: String| Failure::usage(format!("{}: {why}", file.display()));
    let mut text = Vec::new();
    File::open(file)
        .and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    let certificate = CertificateDer::from_pem_slice(&text).map_err(|error| {
        wrong(format!(
            "no certificate in PEM form is in it ({error}); it would begin with \
             \"-----BEGIN CERTIFICATE-----\"."
        ))
    })?;
    if certificate.len() > LARGEST_CERTIFICATES {
        return Err(wrong(format!(
            "the certificate has {} bytes; it may have {LARGEST_CERTIFICATES}.",
            certificate.len()
        )));
    }
    ParsedCertificate::try_from(&certificate)
        .map_err(|error| wrong(format!("TLS would not take the certificate ({error}).")))?;
    let unreadable = || wrong("the certificate cannot be read.".to_owned());
    let summary = x509::read(&certificate).ok_or_else(unreadable)?;
    if !can_be_proved(&rustls::crypto::ring::default_provider(), &summary) {
        return Err(wrong(
            "TLS has no use for a key of its kind here; it may be RSA, P-256, P-384 or Ed25519."
                .to_owned(),
        ));
    }
    let fingerprint = Fingerprint::of(&certificate).ok_or_else(unreadable)?;
    let micros = |seconds: i64| Timestamp(seconds.saturating_mul(1_000_000));
    Ok(AccountCertificate {
        fingerprint: fingerprint.to_string(),
        subject: summary.common_name,
        not_before: micros(summary.not_before),
        not_after: micros(summary.not_after),
    })
}

/// Prints the certificates of an account.
pub fn print(format: Format, certificates: &[AccountCertificate]) -> Result<(), Failure> {
    let mut rows = Rows::new(&[
        ("fingerprint", "FINGERPRINT"),
        ("subject", "SUBJECT"),
        ("not_before", "VALID FROM"),
        ("not_after", "UNTIL"),
    ]);
    for certificate in certificates {
        let mut row = Map::new();
        row.insert("fingerprint".into(), json!(certificate.fingerprint));
        row.insert("subject".into(), json!(certificate.subject));
        row.insert("not_before".into(), json!(shown(certificate.not_before)));
        row.insert("not_after".into(), json!(shown(certificate.not_after)));
        rows.push(row);
    }
    rows.print(format)
}

fn shown(time: Timestamp) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(time.0.div_euclid(1_000_000)).ok()?;
    time.format(&Rfc3339).ok()
}
