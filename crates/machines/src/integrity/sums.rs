//! The hashes of one frozen layer, in a file `sums/<layer>.sums` in the folder that holds the
//! folders of the machine's snapshots. A manifest refers to it by naming the layer, and can do
//! without it. All numbers are little-endian:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `RVLAYSUM` |
//! | 8 | 4 | format version |
//! | 12 | 4 | bytes of a segment, 1048576 |
//! | 16 | 16 | the layer's identity |
//! | 32 | 8 | length of the layer's file |
//! | 40 | 8 | its last modification, nanoseconds since 1970 |
//! | 48 | 8 | its inode |
//! | 56 | 8 | when it was hashed, microseconds since 1970 |
//! | 64 | 16 | xxh3-128 of length and segments, the root |
//! | 80 | 16 | xxh3-128 of everything before |
//! | 96 | 16 each | xxh3-128 of each segment |

use super::segments::{SEGMENT, Stamp, count, root};
use crate::error::Error;
use crate::files;
use crate::ids::LayerId;
use crate::model::Timestamp;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8; 8] = b"RVLAYSUM";
const VERSION: u32 = 1;
const HEADER: usize = 96;
/// The largest file that is read: the sums of a layer of 64 TiB.
const LARGEST: u64 = (64 << 20) * 16 + HEADER as u64;
/// The folder, among the folders of snapshots.
pub(crate) const FOLDER: &str = "sums";
/// What names end in.
pub(crate) const SUFFIX: &str = ".sums";

/// The hashes of a layer, and the file that they are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    pub(crate) layer: LayerId,
    pub(crate) stamp: Stamp,
    pub(crate) hashed: Timestamp,
    pub(crate) segments: Vec<u128>,
}

/// What is wrong with a file of sums.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SumsError {
    #[error("it is shorter than a header")]
    TooShort,
    #[error("it does not begin like a file of sums")]
    Magic,
    #[error("it has format version {0}, and this program knows {VERSION}")]
    UnknownVersion(u32),
    #[error("its checksum does not match")]
    Checksum,
    #[error("{0} makes no sense")]
    Field(&'static str),
}

impl Sums {
    pub(crate) fn root(&self) -> u128 {
        root(self.stamp.length, &self.segments)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.segments.len() * 16);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((1u32 << 20).to_le_bytes());
        bytes.extend(self.layer.0.as_bytes());
        bytes.extend(self.stamp.length.to_le_bytes());
        bytes.extend(self.stamp.modified.to_le_bytes());
        bytes.extend(self.stamp.inode.to_le_bytes());
        bytes.extend(self.hashed.0.to_le_bytes());
        bytes.extend(self.root().to_le_bytes());
        let checksum = xxh3_128(&bytes);
        bytes.extend(checksum.to_le_bytes());
        for segment in &self.segments {
            bytes.extend(segment.to_le_bytes());
        }
        bytes
    }

    /// Writes the sums durably.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        if let Some(folder) = path.parent() {
            files::make_folder(folder)?;
        }
        files::write_whole(path, &self.encode())
    }

    /// Reads and checks the sums of a layer; none if there is no such file.
    pub(crate) fn read(path: &Path, layer: LayerId) -> Result<Option<Sums>, Error> {
        let length = match std::fs::metadata(path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("Reading", path))?.len(),
        };
        let damaged = |reason: String| Error::DamagedSums {
            path: path.to_owned(),
            reason,
        };
        if length > LARGEST {
            return Err(damaged("it is too large".into()));
        }
        let bytes = std::fs::read(path).map_err(Error::io("Reading", path))?;
        let sums = decode(&bytes).map_err(|cause| damaged(cause.to_string()))?;
        if sums.layer != layer {
            return Err(damaged("it is of another layer".into()));
        }
        Ok(Some(sums))
    }
}

/// Where the sums of a layer are, `snapshots` being the folder of the snapshots' folders.
pub(crate) fn path_of(snapshots: &Path, layer: LayerId) -> PathBuf {
    snapshots.join(FOLDER).join(format!("{layer}{SUFFIX}"))
}

/// Deletes the sums of layers, durably.
pub(crate) fn delete(snapshots: &Path, layers: &[LayerId]) -> Result<(), Error> {
    let folder = snapshots.join(FOLDER);
    if !folder.is_dir() {
        return Ok(());
    }
    for layer in layers {
        files::delete(&path_of(snapshots, *layer))?;
    }
    files::sync_folder(&folder)
}

/// Reads a whole file of sums.
pub fn decode(bytes: &[u8]) -> Result<Sums, SumsError> {
    let header = bytes.get(..HEADER).ok_or(SumsError::TooShort)?;
    let fields = Fields(header);
    if fields.bytes::<8>(0)? != *MAGIC {
        return Err(SumsError::Magic);
    }
    let version = u32::from_le_bytes(fields.bytes(8)?);
    if version != VERSION {
        return Err(SumsError::UnknownVersion(version));
    }
    let body = header.get(..80).ok_or(SumsError::TooShort)?;
    if xxh3_128(body) != u128::from_le_bytes(fields.bytes(80)?) {
        return Err(SumsError::Checksum);
    }
    if u64::from(u32::from_le_bytes(fields.bytes(12)?)) != SEGMENT {
        return Err(SumsError::Field("the size of a segment"));
    }
    let stamp = Stamp {
        length: u64::from_le_bytes(fields.bytes(32)?),
        modified: i64::from_le_bytes(fields.bytes(40)?),
        inode: u64::from_le_bytes(fields.bytes(48)?),
    };
    let rest = bytes.get(HEADER..).unwrap_or_default();
    if count(stamp.length).checked_mul(16) != Some(rest.len() as u64) {
        return Err(SumsError::Field("the number of segments"));
    }
    let (chunks, _) = rest.as_chunks::<16>();
    let sums = Sums {
        layer: LayerId(Uuid::from_bytes(fields.bytes(16)?)),
        stamp,
        hashed: Timestamp(i64::from_le_bytes(fields.bytes(56)?)),
        segments: chunks.iter().map(|c| u128::from_le_bytes(*c)).collect(),
    };
    if sums.root() != u128::from_le_bytes(fields.bytes(64)?) {
        return Err(SumsError::Checksum);
    }
    Ok(sums)
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], SumsError> {
        let rest = self.0.get(at..).and_then(|rest| rest.first_chunk::<N>());
        rest.copied().ok_or(SumsError::TooShort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums() -> Sums {
        Sums {
            layer: LayerId::new(),
            stamp: Stamp {
                length: 2 * SEGMENT + 5,
                modified: 1_700_000_000_123_456_789,
                inode: 42,
            },
            hashed: Timestamp(1_700_000_001_000_000),
            segments: vec![1, u128::MAX, 77],
        }
    }

    #[test]
    fn sums_come_back_as_they_were() {
        let sums = sums();
        assert_eq!(decode(&sums.encode()), Ok(sums));
    }

    #[test]
    fn damage_is_found_at_every_byte() {
        let whole = sums().encode();
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                assert!(decode(&bytes).is_err(), "byte {at} ^ {flip:#x}");
            }
        }
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_decodes_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
