//! A quick look at a qcow2 file: whether its header makes sense for a file of its length, and on
//! which file it says that it lies. Facts from QEMU's `docs/interop/qcow2.rst`.

use std::path::{Path, PathBuf};

/// Bytes from the start of a file that are enough for [`Header::parse`].
pub const LOOKED_AT: usize = 64 << 10;

/// The longest name of a backing file.
const LONGEST_NAME: usize = 1023;

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at offset {offset} makes no sense")]
pub struct BadHeader {
    /// What.
    pub what: &'static str,
    /// Where in the file.
    pub offset: u64,
}

/// The part of a header that other files and the file's length can contradict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The file below, as the header names it.
    pub backing: Option<PathBuf>,
}

impl Header {
    /// Reads the start of a file that is `length` bytes long.
    pub fn parse(start: &[u8], length: u64) -> Result<Header, BadHeader> {
        let bad = |what, offset| BadHeader { what, offset };
        let fields = Fields(start);
        if fields.number32(0)? != 0x5146_49fb {
            return Err(bad("the magic number", 0));
        }
        let version = fields.number32(4)?;
        if !(2..=3).contains(&version) {
            return Err(bad("the version", 4));
        }
        let cluster_bits = fields.number32(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(bad("the size of clusters", 20));
        }
        let cluster = 1u64 << cluster_bits;
        // The tables that everything else hangs on must begin within the file, on a cluster.
        let table = |offset: u64, clusters: u64| -> bool {
            offset.is_multiple_of(cluster)
                && offset >= cluster
                && offset
                    .checked_add(clusters)
                    .is_some_and(|end| end <= length.next_multiple_of(cluster))
        };
        let l1_entries = u64::from(fields.number32(36)?);
        if l1_entries > 0 && !table(fields.number64(40)?, l1_entries.saturating_mul(8)) {
            return Err(bad("the place of the L1 table", 40));
        }
        let refcount_clusters = u64::from(fields.number32(56)?);
        let refcount_bytes = refcount_clusters.saturating_mul(cluster);
        if refcount_clusters == 0 || !table(fields.number64(48)?, refcount_bytes) {
            return Err(bad("the place of the table of reference counts", 48));
        }
        Ok(Header {
            backing: backing(&fields)?,
        })
    }
}

fn backing(fields: &Fields<'_>) -> Result<Option<PathBuf>, BadHeader> {
    let bad = || BadHeader {
        what: "the name of the file below",
        offset: 8,
    };
    let at = fields.number64(8)?;
    if at == 0 {
        return Ok(None);
    }
    let size = usize::try_from(fields.number32(16)?).map_err(|_| bad())?;
    let at = usize::try_from(at).map_err(|_| bad())?;
    if size == 0 || size > LONGEST_NAME {
        return Err(bad());
    }
    let end = at.checked_add(size).ok_or_else(bad)?;
    let name = fields.0.get(at..end).ok_or_else(bad)?;
    let name = std::str::from_utf8(name).map_err(|_| bad())?;
    Ok(Some(Path::new(name).to_owned()))
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], BadHeader> {
        let rest = self.0.get(at..).and_then(|rest| rest.first_chunk::<N>());
        rest.copied().ok_or(BadHeader {
            what: "the end of the file",
            offset: self.0.len() as u64,
        })
    }

    fn number32(&self, at: usize) -> Result<u32, BadHeader> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn number64(&self, at: usize) -> Result<u64, BadHeader> {
        self.bytes(at).map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_qemu_makes_is_read_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (base, over) = (dir.path().join("base.img"), dir.path().join("over.qcow2"));
        std::fs::write(&base, vec![0; 1 << 20]).unwrap();
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&base, &over])
            .status();
        assert!(made.unwrap().success());
        let bytes = std::fs::read(&over).unwrap();
        let length = bytes.len() as u64;
        let parse = |bytes: &[u8]| {
            let start = &bytes[..bytes.len().min(LOOKED_AT)];
            Header::parse(start, length)
        };
        assert_eq!(parse(&bytes).unwrap().backing, Some(base));
        for at in [0, 4, 20, 8, 40, 48] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            assert_eq!(parse(&damaged).unwrap_err().offset, at as u64, "{at}");
        }
        assert!(parse(&bytes[..30]).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300), length: u64, magic: bool) {
            if magic && bytes.len() > 24 {
                bytes[..8].copy_from_slice(&[0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
                bytes[20..24].copy_from_slice(&[0, 0, 0, 16]);
            }
            let _ = Header::parse(&bytes, length);
        }
    }
}
