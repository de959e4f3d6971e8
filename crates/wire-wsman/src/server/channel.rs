//! Which TLS connection a logon belongs to: `tls-server-end-point` (RFC 5929), as NTLM carries it
//! (MS-NLMP 2.2.2.1). A logon that somebody passes on from another connection is refused by it.

use http_server::x509;
use md5::{Digest, Md5};
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use rustls::pki_types::CertificateDer;

/// Signature algorithms of certificates, as DER writes their identifiers, whose hash is SHA-384.
const WITH_SHA384: [&[u8]; 2] = [
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c],
];
/// Those whose hash is SHA-256, or one that SHA-256 stands for: MD5 and SHA-1.
const WITH_SHA256: [&[u8]; 5] = [
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
];

/// MD5 of the bindings of a connection with this certificate; `None` for certificates whose
/// algorithm has no hash that both sides would agree on.
pub(super) fn bindings(certificate: &CertificateDer<'_>) -> Option<[u8; 16]> {
    let algorithm = x509::signature_algorithm(certificate)?;
    let suite = if WITH_SHA256.contains(&algorithm) {
        TLS13_AES_128_GCM_SHA256
    } else if WITH_SHA384.contains(&algorithm) {
        TLS13_AES_256_GCM_SHA384
    } else {
        return None;
    };
    let SupportedCipherSuite::Tls13(suite) = suite else {
        return None;
    };
    let mut data = b"tls-server-end-point:".to_vec();
    data.extend_from_slice(suite.common.hash_provider.hash(certificate).as_ref());
    let length = u32::try_from(data.len()).ok()?;
    // Two addresses that are not there, with their types.
    let mut digest = Md5::new();
    digest.update([0; 16]);
    digest.update(length.to_le_bytes());
    digest.update(&data);
    Some(digest.finalize().into())
}
