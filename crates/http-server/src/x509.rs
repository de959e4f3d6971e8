//! The few fields of X.509 certificates (RFC 5280) that logons and their administrators need. No
//! chain is built and no signature verified here: that a client has a certificate's key is proved in
//! the TLS handshake, and whom it stands for is looked up by its fingerprint.

use rustls::crypto::hash::Output;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use std::fmt;
use std::str::FromStr;

/// SHA-256 of a certificate's DER. Shown and stored as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is SHA-256 of a certificate: 64 hexadecimal digits, with colons or without")]
pub struct NoFingerprint;

impl Fingerprint {
    /// The fingerprint of a certificate; `None` only in a build whose TLS has no SHA-256.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let digest: Output = TLS13_AES_128_GCM_SHA256
            .tls13()?
            .common
            .hash_provider
            .hash(certificate);
        digest.as_ref().try_into().ok().map(Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// As this program shows it, and as others do: in upper case, with colons between bytes.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let mut bytes = [0; 32];
        let mut digits = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        for byte in &mut bytes {
            for _ in 0..2 {
                let digit = digits.next().flatten().ok_or(NoFingerprint)?;
                *byte = *byte << 4 | u8::try_from(digit).map_err(|_| NoFingerprint)?;
            }
        }
        match digits.next() {
            None => Ok(Fingerprint(bytes)),
            Some(_) => Err(NoFingerprint),
        }
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The subject's common name, without control characters, cut to [`LONGEST_NAME`]; `None` if it
    /// has none, or one in an encoding of old.
    pub common_name: Option<String>,
    /// The first second in which it is valid, since 1970 (UTC).
    pub not_before: i64,
    /// The last second in which it is valid, since 1970 (UTC).
    pub not_after: i64,
    /// `AlgorithmIdentifier` of its key: the content, without tag and length.
    pub key_algorithm: Vec<u8>,
}

/// Characters of a common name that are looked at.
pub const LONGEST_NAME: usize = 128;

/// `SEQUENCE`.
const SEQUENCE: u8 = 0x30;
/// `OBJECT IDENTIFIER`.
const IDENTIFIER: u8 = 0x06;
/// 2.5.4.3, `id-at-commonName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Reads a certificate; `None` if it is none.
pub fn read(certificate: &[u8]) -> Option<Summary> {
    let (content, _) = element(certificate, SEQUENCE)?;
    let (signed, _) = element(content, SEQUENCE)?;
    // The version, which is not written when it is the first, and the serial number.
    let rest = element(signed, 0xa0).map_or(signed, |(_, rest)| rest);
    let (_, rest) = element(rest, 0x02)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, rest) = element(rest, SEQUENCE)?;
    let (subject, rest) = element(rest, SEQUENCE)?;
    let (key, _) = element(rest, SEQUENCE)?;
    let (key_algorithm, _) = element(key, SEQUENCE)?;
    let (not_before, validity) = time(validity)?;
    let (not_after, _) = time(validity)?;
    Some(Summary {
        common_name: common_name(subject),
        not_before,
        not_after,
        key_algorithm: key_algorithm.to_vec(),
    })
}

/// The identifier of the algorithm that a certificate was signed with, as DER writes it:
/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, ... }, ... }`.
pub fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (content, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(content, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    element(algorithm, IDENTIFIER).map(|(identifier, _)| identifier)
}

/// The content of the DER element at the start, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the DER element at the start, and what follows it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().try_fold(0_usize, |sum, digit| {
                sum.checked_mul(256)?.checked_add(usize::from(*digit))
            });
            (length?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// The `Time` at the start (RFC 5280, 4.1.2.5), in seconds since 1970, and what follows it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, text, rest) = any(bytes)?;
    let (year, text) = match tag {
        // UTCTime: two digits stand for 1950 to 2049.
        0x17 => {
            let (year, text) = number(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        0x18 => number(text, 4)?,
        _ => return None,
    };
    let mut text = text;
    let mut next = || {
        let (value, rest) = number(text, 2)?;
        text = rest;
        u8::try_from(value).ok()
    };
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    if text != b"Z" {
        return None;
    }
    let month = time::Month::try_from(month).ok()?;
    let date = time::Date::from_calendar_date(i32::from(year), month, day).ok()?;
    let moment = date.with_hms(hour, minute, second).ok()?.assume_utc();
    Some((moment.unix_timestamp(), rest))
}

/// A number of so many decimal digits, at most four, and what follows it.
fn number(text: &[u8], digits: usize) -> Option<(u16, &[u8])> {
    let (text, rest) = text.split_at_checked(digits)?;
    let value = text.iter().try_fold(0_u16, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    });
    Some((value?, rest))
}

/// The last common name in `RDNSequence`'s content.
fn common_name(mut names: &[u8]) -> Option<String> {
    let mut found = None;
    while let Some((mut set, rest)) = element(names, 0x31) {
        names = rest;
        while let Some((attribute, rest)) = element(set, SEQUENCE) {
            set = rest;
            if let Some((COMMON_NAME, value)) = element(attribute, IDENTIFIER) {
                found = any(value).and_then(|(tag, text, _)| string(tag, text));
            }
        }
    }
    found
}

/// A `DirectoryString`, fit to be shown.
fn string(tag: u8, bytes: &[u8]) -> Option<String> {
    let text = match tag {
        // UTF8String, PrintableString, IA5String
        0x0c | 0x13 | 0x16 => str::from_utf8(bytes).ok()?.to_owned(),
        // BMPString
        0x1e => {
            let (units, rest) = bytes.as_chunks::<2>();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            char::decode_utf16(units)
                .collect::<Result<String, _>>()
                .ok()
                .filter(|_| rest.is_empty())?
        }
        _ => return None,
    };
    let shown = text.chars().filter(|c| !c.is_control());
    let shown: String = shown.take(LONGEST_NAME).collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, NoFingerprint, read, signature_algorithm, time};

    fn made(from: (i32, u8, u8), until: (i32, u8, u8), name: &str) -> Vec<u8> {
        let mut wanted = rcgen::CertificateParams::default();
        wanted.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        wanted.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        wanted
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = wanted.self_signed(&key).expect("a certificate");
        made.der().to_vec()
    }

    #[test]
    fn name_and_validity_are_read() {
        // One time in each of the two forms.
        let certificate = made((2024, 2, 29), (2050, 1, 1), "alice\u{1b}[2J\u{fc}");
        let found = read(&certificate).expect("a certificate");
        assert_eq!(found.common_name.as_deref(), Some("alice[2J\u{fc}"));
        assert_eq!(found.not_before, 1_709_164_800);
        assert_eq!(found.not_after, 2_524_608_000);
        // ecdsa-with-SHA256
        let algorithm: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        assert_eq!(signature_algorithm(&certificate), Some(algorithm));
    }

    /// As OpenSSL makes them.
    #[test]
    fn seeds_of_the_fuzzer_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/certificate");
        let mut good = 0;
        for entry in std::fs::read_dir(folder).expect("seeds") {
            let path = entry.expect("an entry").path();
            let read = read(&std::fs::read(&path).expect("a seed"));
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(name) = name.strip_prefix("good_") {
                let read = read.unwrap_or_else(|| panic!("{name} is not read"));
                assert_eq!(read.common_name.as_deref(), Some(name));
                good += 1;
            }
        }
        assert_eq!(good, 2);
    }

    #[test]
    fn what_is_cut_is_refused_and_never_worse() {
        let certificate = made((2024, 1, 1), (2034, 1, 1), "alice");
        for length in 0..certificate.len() {
            assert_eq!(read(&certificate[..length]), None, "{length}");
        }
        for at in 0..certificate.len() {
            let mut changed = certificate.clone();
            changed[at] ^= 0xff;
            let _ = (read(&changed), signature_algorithm(&changed));
        }
    }

    #[test]
    fn times_are_those_of_the_profile() {
        let of = |tag: u8, text: &str| {
            let mut bytes = vec![tag, u8::try_from(text.len()).expect("a short text")];
            bytes.extend_from_slice(text.as_bytes());
            time(&bytes).map(|(seconds, _)| seconds)
        };
        assert_eq!(of(0x17, "700101000000Z"), Some(0));
        assert_eq!(of(0x17, "500101000000Z"), Some(-631_152_000));
        assert_eq!(of(0x18, "99991231235959Z"), Some(253_402_300_799));
        for wrong in [
            "700101000000",
            "7001010000Z",
            "701301000000Z",
            "700230000000Z",
            "700101240000Z",
            "7001010000-1Z",
            "700101000000+0100",
            "",
        ] {
            assert_eq!(of(0x17, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn fingerprints_are_read_as_they_are_shown_here_and_elsewhere() {
        let empty = Fingerprint::of(b"").expect("SHA-256");
        let shown = empty.to_string();
        assert_eq!(
            shown,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let pairs: Vec<&str> = (0..32).map(|at| &shown[at * 2..at * 2 + 2]).collect();
        for text in [shown.clone(), pairs.join(":").to_uppercase()] {
            assert_eq!(text.parse(), Ok(empty));
        }
        for wrong in ["", &shown[1..], &format!("{shown}0"), &"g".repeat(64)] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint), "{wrong}");
        }
    }
}
