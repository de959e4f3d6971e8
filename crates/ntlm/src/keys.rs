//! From a password to the keys of a session (MS-NLMP 3.3.2, 3.4.5).

use crate::rc4::Rc4;
use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use std::fmt;

pub(crate) type Key = [u8; 16];

/// MD4 of a password in UTF-16: all that an account needs to log on by NTLM, and therefore as
/// secret as the password.
#[derive(Clone, PartialEq, Eq)]
pub struct NtHash(Key);

impl NtHash {
    /// The hash of a password.
    pub fn of_password(password: &str) -> Self {
        NtHash(Md4::digest(utf16(password)).into())
    }

    /// A stored hash.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        NtHash(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for NtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NtHash(secret)")
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// UTF-16, little-endian, without an end.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub(crate) fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> Hmac<Md5> {
    // An HMAC takes keys of every length; the error type is shared with constructions that do not.
    let mut hmac = match <Hmac<Md5> as KeyInit>::new_from_slice(key) {
        Ok(hmac) => hmac,
        Err(_) => Hmac::new(&Default::default()),
    };
    for part in parts {
        hmac.update(part);
    }
    hmac
}

pub(crate) fn hmac_md5_of(key: &[u8], parts: &[&[u8]]) -> Key {
    hmac_md5(key, parts).finalize().into_bytes().into()
}

/// Upper case as Windows forms it: character by character, never more of them.
fn upper(text: &str) -> String {
    text.chars()
        .map(|c| {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(single), None) => single,
                _ => c,
            }
        })
        .collect()
}

/// NTOWFv2: the key of an account within a domain, as the client spelled it.
pub(crate) fn response_key(hash: &NtHash, user: &str, domain: &str) -> Key {
    hmac_md5_of(&hash.0, &[&utf16(&upper(user)), &utf16(domain)])
}

/// The random key that the client made, out of its encryption; or its encryption.
pub(crate) fn exchange(session_base_key: &Key, key: &Key) -> Key {
    let mut exchanged = *key;
    Rc4::new(session_base_key).apply(&mut exchanged);
    exchanged
}

fn of_magic(session_key: &Key, magic: &[u8]) -> Key {
    let mut digest = Md5::new();
    digest.update(session_key);
    digest.update(magic);
    digest.finalize().into()
}

pub(crate) fn signing_key(session_key: &Key, direction: Direction) -> Key {
    let magic: &[u8] = match direction {
        Direction::ToServer => b"session key to client-to-server signing key magic constant\0",
        Direction::ToClient => b"session key to server-to-client signing key magic constant\0",
    };
    of_magic(session_key, magic)
}

/// With 128 bits the whole session key goes in; fewer bits are not spoken.
pub(crate) fn sealing_key(session_key: &Key, direction: Direction) -> Key {
    let magic: &[u8] = match direction {
        Direction::ToServer => b"session key to client-to-server sealing key magic constant\0",
        Direction::ToClient => b"session key to server-to-client sealing key magic constant\0",
    };
    of_magic(session_key, magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MS-NLMP 4.2.4.1.1 and the hash of 4.2.2.1.2.
    #[test]
    fn hashes_are_the_published_ones() {
        let hash = NtHash::of_password("Password");
        assert_eq!(
            hash.as_bytes(),
            &[
                0xa4, 0xf4, 0x9c, 0x40, 0x65, 0x10, 0xbd, 0xca, 0xb6, 0x82, 0x4e, 0xe7, 0xc3, 0x0f,
                0xd8, 0x52
            ]
        );
        assert_eq!(
            response_key(&hash, "User", "Domain"),
            [
                0x0c, 0x86, 0x8a, 0x40, 0x3b, 0xfd, 0x7a, 0x93, 0xa3, 0x00, 0x1e, 0xf2, 0x2e, 0xf0,
                0x2e, 0x3f
            ]
        );
        assert_eq!(format!("{hash:?}"), "NtHash(secret)");
    }

    #[test]
    fn names_are_folded_character_by_character() {
        let hash = NtHash::of_password("x");
        assert_eq!(
            response_key(&hash, "jörg", "D"),
            response_key(&hash, "JÖRG", "D")
        );
        assert_ne!(
            response_key(&hash, "straße", "D"),
            response_key(&hash, "STRASSE", "D")
        );
    }
}
