//! Hashing files in segments, so that a mismatch says where it is.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_128;

/// Bytes of a segment; the last of a file may be shorter.
pub(crate) const SEGMENT: u64 = 1 << 20;
/// The same, as a length of memory.
const SEGMENT_LENGTH: usize = 1 << 20;

static ZEROS: LazyLock<u128> = LazyLock::new(|| xxh3_128(&vec![0; SEGMENT_LENGTH]));

/// What tells a file from itself after somebody wrote to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Bytes.
    pub length: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified: i64,
    /// The file's number on its file system.
    pub inode: u64,
}

impl Stamp {
    pub fn of(file: &File) -> io::Result<Stamp> {
        let found = file.metadata()?;
        Ok(Stamp {
            length: found.len(),
            modified: found
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(found.mtime_nsec()),
            inode: found.ino(),
        })
    }
}

/// How many segments a file of this length has.
pub(crate) fn count(length: u64) -> u64 {
    length.div_ceil(SEGMENT)
}

/// The bytes of one segment.
pub(crate) fn extent(index: u64, length: u64) -> Range<u64> {
    let start = index.saturating_mul(SEGMENT).min(length);
    start..start.saturating_add(SEGMENT).min(length)
}

/// Reads segments of one file. Holes are not read; they count as the zeros that they read as.
pub(crate) struct Reader<'a> {
    file: &'a File,
    length: u64,
    buffer: Vec<u8>,
    /// From where to where the file is known to hold no data.
    hole: Range<u64>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a File, length: u64) -> Reader<'a> {
        // What the page cache holds would hide what has become of the disk.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        Reader {
            file,
            length,
            buffer: vec![0; SEGMENT_LENGTH],
            hole: 0..0,
        }
    }

    /// The hash of one segment, and how many bytes were read for it.
    pub fn hash(&mut self, index: u64) -> io::Result<(u128, u64)> {
        let extent = extent(index, self.length);
        let bytes = extent.end.saturating_sub(extent.start);
        if self.is_hole(&extent) {
            let hash = if bytes == SEGMENT {
                *ZEROS
            } else {
                let zeros = vec![0; usize::try_from(bytes).unwrap_or(SEGMENT_LENGTH)];
                xxh3_128(&zeros)
            };
            return Ok((hash, 0));
        }
        let length = usize::try_from(bytes).unwrap_or(SEGMENT_LENGTH);
        let buffer = self.buffer.get_mut(..length).unwrap_or_default();
        self.file.read_exact_at(buffer, extent.start)?;
        let hash = xxh3_128(buffer);
        // Read once, it is not worth the room of what guests and others read again.
        let read = NonZeroU64::new(bytes);
        let _ = rustix::fs::fadvise(self.file, extent.start, read, rustix::fs::Advice::DontNeed);
        Ok((hash, bytes))
    }

    fn is_hole(&mut self, extent: &Range<u64>) -> bool {
        if self.hole.start <= extent.start && extent.end <= self.hole.end {
            return true;
        }
        let next = match rustix::fs::seek(self.file, rustix::fs::SeekFrom::Data(extent.start)) {
            Ok(next) => next,
            // No data from here to the end.
            Err(rustix::io::Errno::NXIO) => self.length,
            // A file system that does not know holes.
            Err(_) => return false,
        };
        self.hole = extent.start..next.max(extent.start);
        extent.end <= self.hole.end
    }
}

/// One hash over all segments and the length.
pub(crate) fn root(length: u64, segments: &[u128]) -> u128 {
    let mut all = Vec::with_capacity(segments.len() * 16 + 8);
    all.extend(length.to_le_bytes());
    for segment in segments {
        all.extend(segment.to_le_bytes());
    }
    xxh3_128(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(file: &File) -> Vec<u128> {
        let length = Stamp::of(file).unwrap().length;
        let mut reader = Reader::new(file, length);
        (0..count(length))
            .map(|index| reader.hash(index).unwrap().0)
            .collect()
    }

    #[test]
    fn a_hole_is_zeros() {
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(5 * SEGMENT + 77).unwrap();
        sparse.write_all_at(b"data", 2 * SEGMENT + 5000).unwrap();
        let full = tempfile::tempfile().unwrap();
        let mut bytes = vec![0u8; usize::try_from(5 * SEGMENT + 77).unwrap()];
        let at = usize::try_from(2 * SEGMENT + 5000).unwrap();
        bytes[at..at + 4].copy_from_slice(b"data");
        full.write_all_at(&bytes, 0).unwrap();
        assert_eq!(hashes(&sparse), hashes(&full));
        assert_eq!(hashes(&sparse).len(), 6);
        assert_eq!(hashes(&tempfile::tempfile().unwrap()), Vec::<u128>::new());
    }

    #[test]
    fn a_flip_changes_its_segment_alone() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 3 << 20], 0).unwrap();
        let before = hashes(&file);
        file.write_all_at(&[6], (1 << 20) + 3).unwrap();
        let after = hashes(&file);
        let differ: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
        assert_eq!(differ, [false, true, false]);
        assert_ne!(root(3 << 20, &before), root(3 << 20, &after));
    }

    #[test]
    fn segments_cover_a_file_exactly() {
        for length in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 7 * SEGMENT + 9] {
            let mut at = 0;
            for index in 0..count(length) {
                let extent = extent(index, length);
                assert_eq!(extent.start, at);
                at = extent.end;
            }
            assert_eq!(at, length);
        }
    }
}
