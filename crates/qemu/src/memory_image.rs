//! The file that holds a guest's memory and device state, and starting a guest from it.
//!
//! Version 1 is a header of one page, readable without the rest, and behind it the migration
//! stream as QEMU sent it. All numbers are little-endian:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `RVMEMIMG` |
//! | 8 | 4 | format version |
//! | 12 | 4 | length of the header, 4096 |
//! | 16 | 8 | offset of the stream, 4096 |
//! | 24 | 8 | length of the stream |
//! | 32 | 16 | xxh3-128 of the stream |
//! | 48 | 8 | guest memory in MiB |
//! | 56 | 8 | creation, microseconds since 1970 |
//! | 64 | 12 | QEMU's version: major, minor, micro |
//! | 128 | 64 | machine type, UTF-8, padded with zeros |
//! | 192 | 64 | producer, UTF-8, padded with zeros |
//! | 4080 | 16 | xxh3-128 of everything before |
//!
//! All other bytes of the header are zero. An image is never changed once it has its name; a guest
//! can be started from it any number of times.

use crate::installation::Version;
use crate::live::LiveError;
use crate::process::Process;
use crate::qmp::QmpError;
use crate::spec::check_path;
use serde_json::json;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// The version that this program writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Length of the header, and offset of the stream.
pub const HEADER_LENGTH: usize = 4096;

const MAGIC: &[u8; 8] = b"RVMEMIMG";
const MACHINE_TYPE_AT: usize = 128;
const PRODUCER_AT: usize = 192;
const TEXT_LENGTH: usize = 64;
const CHECKSUM_AT: usize = HEADER_LENGTH - 16;

/// What the header of a memory image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the stream.
    pub stream_length: u64,
    /// xxh3-128 of it.
    pub stream_hash: u128,
    /// What the image was taken from.
    pub origin: Origin,
    /// Program and version that wrote the file.
    pub producer: String,
    /// When, in microseconds since 1970.
    pub created_micros: i64,
}

/// What a memory image was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// QEMU's version.
    pub qemu: Version,
    /// Machine type ([`crate::spec::MACHINE_TYPE`]), at most 63 bytes.
    pub machine_type: String,
    /// Guest memory in MiB.
    pub ram_mib: u64,
}

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HeaderError {
    #[error("it is shorter than a header")]
    TooShort,
    #[error("it does not begin like a memory image")]
    Magic,
    #[error("it has format version {found}, and this program knows {FORMAT_VERSION}")]
    UnknownVersion { found: u32 },
    #[error("the checksum at offset {CHECKSUM_AT} does not match")]
    Checksum,
    #[error("{what} at offset {offset} makes no sense")]
    Field { what: &'static str, offset: usize },
}

impl Header {
    /// The first page of the file.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut page = [0; HEADER_LENGTH];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in page.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(0, MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(12, &4096u32.to_le_bytes());
        put(16, &4096u64.to_le_bytes());
        put(24, &self.stream_length.to_le_bytes());
        put(32, &self.stream_hash.to_le_bytes());
        put(48, &self.origin.ram_mib.to_le_bytes());
        put(56, &self.created_micros.to_le_bytes());
        put(64, &self.origin.qemu.major.to_le_bytes());
        put(68, &self.origin.qemu.minor.to_le_bytes());
        put(72, &self.origin.qemu.micro.to_le_bytes());
        put(MACHINE_TYPE_AT, fitting(&self.origin.machine_type));
        put(PRODUCER_AT, fitting(&self.producer));
        let sum = Header::checksum(&page);
        let (_, end) = page.split_at_mut(CHECKSUM_AT);
        end.copy_from_slice(&sum);
        page
    }

    /// The checksum that belongs at the end of a header.
    pub fn checksum(page: &[u8; HEADER_LENGTH]) -> [u8; 16] {
        let (body, _) = page.split_at(CHECKSUM_AT);
        xxh3_128(body).to_le_bytes()
    }

    /// Reads the first page of a file. The version is looked at first, so that a later format is
    /// named rather than called damaged.
    pub fn decode(page: &[u8]) -> Result<Header, HeaderError> {
        let fields = Fields(page.get(..HEADER_LENGTH).ok_or(HeaderError::TooShort)?);
        if fields.bytes::<8>(0)? != *MAGIC {
            return Err(HeaderError::Magic);
        }
        let found = fields.number32(8)?;
        if found != FORMAT_VERSION {
            return Err(HeaderError::UnknownVersion { found });
        }
        let body = fields.0.get(..CHECKSUM_AT).ok_or(HeaderError::TooShort)?;
        if xxh3_128(body) != u128::from_le_bytes(fields.bytes(CHECKSUM_AT)?) {
            return Err(HeaderError::Checksum);
        }
        let bad = |what, offset| HeaderError::Field { what, offset };
        if fields.number32(12)? != 4096 {
            return Err(bad("the length of the header", 12));
        }
        if fields.number64(16)? != 4096 {
            return Err(bad("the offset of the stream", 16));
        }
        let stream_length = fields.number64(24)?;
        // A file cannot be longer than what an offset can hold.
        if i64::try_from(stream_length).map_or(true, |length| length > i64::MAX - 4096) {
            return Err(bad("the length of the stream", 24));
        }
        Ok(Header {
            stream_length,
            stream_hash: u128::from_le_bytes(fields.bytes(32)?),
            origin: Origin {
                qemu: Version {
                    major: fields.number32(64)?,
                    minor: fields.number32(68)?,
                    micro: fields.number32(72)?,
                },
                machine_type: fields
                    .text(MACHINE_TYPE_AT)
                    .ok_or(bad("the machine type", MACHINE_TYPE_AT))?,
                ram_mib: fields.number64(48)?,
            },
            producer: fields
                .text(PRODUCER_AT)
                .ok_or(bad("the producer", PRODUCER_AT))?,
            created_micros: i64::from_le_bytes(fields.bytes(56)?),
        })
    }

    /// Length of a file with this header.
    pub fn file_length(&self) -> u64 {
        self.stream_length.saturating_add(4096)
    }
}

/// As much of a text as has room, in whole characters and with a zero behind.
fn fitting(text: &str) -> &[u8] {
    let mut end = text.len().min(TEXT_LENGTH - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().as_bytes()
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], HeaderError> {
        let slice = self.0.get(at..).and_then(|rest| rest.first_chunk::<N>());
        slice.copied().ok_or(HeaderError::TooShort)
    }

    fn number32(&self, at: usize) -> Result<u32, HeaderError> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn number64(&self, at: usize) -> Result<u64, HeaderError> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    fn text(&self, at: usize) -> Option<String> {
        let field: [u8; TEXT_LENGTH] = self.bytes(at).ok()?;
        let (text, padding) = field.split_at(field.iter().position(|b| *b == 0)?);
        let padded = padding.iter().all(|b| *b == 0);
        let text = std::str::from_utf8(text).ok()?;
        padded.then(|| text.to_owned())
    }
}

/// A memory image with a valid header and the right length.
#[derive(Clone, Debug)]
pub struct MemoryImage {
    path: PathBuf,
    header: Header,
}

/// Why a memory image cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImageError {
    #[error("The memory image {path} cannot be read at offset {offset}: {cause}.")]
    Io {
        path: PathBuf,
        offset: u64,
        #[source]
        cause: io::Error,
    },
    #[error("{path} cannot be used as a memory image: {cause}.")]
    Header {
        path: PathBuf,
        #[source]
        cause: HeaderError,
    },
    #[error("The memory image {path} is {found} bytes long, and its header says {expected}.")]
    WrongLength {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    #[error(
        "The memory image {path} is damaged: the {length} bytes from offset {offset} on do not \
         match their hash."
    )]
    WrongHash {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
    #[error("QEMU does not accept the memory image {path}. It says: {said}")]
    Rejected { path: PathBuf, said: String },
    #[error(transparent)]
    Live(#[from] LiveError),
}

impl From<QmpError> for ImageError {
    fn from(error: QmpError) -> Self {
        ImageError::Live(error.into())
    }
}

impl MemoryImage {
    /// Reads and checks the header and the file's length, not the stream (short, blocking).
    pub fn open(path: &Path) -> Result<MemoryImage, ImageError> {
        let failed = |cause| ImageError::Io {
            path: path.into(),
            offset: 0,
            cause,
        };
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        let refused = |cause| ImageError::Header {
            path: path.into(),
            cause,
        };
        let mut page = [0; HEADER_LENGTH];
        match file.read_exact_at(&mut page, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(refused(HeaderError::TooShort));
            }
            other => other.map_err(failed)?,
        }
        let header = Header::decode(&page).map_err(refused)?;
        let expected = header.file_length();
        if found != expected {
            return Err(ImageError::WrongLength {
                path: path.into(),
                expected,
                found,
            });
        }
        Ok(MemoryImage {
            path: path.into(),
            header,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the whole file and compares it with its hash.
    pub async fn verify(&self) -> Result<(), ImageError> {
        let image = self.clone();
        let task = tokio::task::spawn_blocking(move || image.verify_blocking());
        task.await.unwrap_or_else(|error| {
            Err(ImageError::Io {
                path: self.path.clone(),
                offset: 0,
                cause: io::Error::other(error),
            })
        })
    }

    fn verify_blocking(&self) -> Result<(), ImageError> {
        let failed = |offset| {
            move |cause| ImageError::Io {
                path: self.path.clone(),
                offset,
                cause,
            }
        };
        let file = File::open(&self.path).map_err(failed(0))?;
        let mut buffer = vec![0; 1 << 20];
        let mut hash = Xxh3Default::new();
        let mut offset = 4096;
        let end = self.header.file_length();
        while offset < end {
            let read = file.read_at(&mut buffer, offset).map_err(failed(offset))?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Err(ImageError::WrongLength {
                    path: self.path.clone(),
                    expected: end,
                    found: offset,
                });
            }
            // A file that grew is caught by its length; only the stream is hashed.
            let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
            hash.update(bytes.get(..left.min(read)).unwrap_or(bytes));
            offset += read as u64;
        }
        if hash.digest128() != self.header.stream_hash {
            return Err(ImageError::WrongHash {
                path: self.path.clone(),
                offset: 4096,
                length: self.header.stream_length,
            });
        }
        Ok(())
    }

    /// Loads the image into a process launched with [`crate::spec::Start::Incoming`]. The guest
    /// then stands still until [`Process::cont`], whatever it did when the image was taken.
    /// After a failure the process is of no use; it may have ended.
    pub async fn restore_into(
        &self,
        process: &Process,
        patience: Duration,
    ) -> Result<(), ImageError> {
        check_path(&self.path).map_err(LiveError::from)?;
        let address = json!({
            "transport": "file", "filename": self.path.to_string_lossy(), "offset": 4096,
        });
        let load = async {
            process.migrate("migrate-incoming", address).await?;
            process.wait_migration(patience).await
        };
        match load.await {
            Ok(_) => Ok(()),
            // QEMU ends when it cannot read a stream, and says why in its log.
            Err(LiveError::Qmp(QmpError::Disconnected { .. })) => {
                let _ = tokio::time::timeout(Duration::from_secs(10), process.exited()).await;
                Err(ImageError::Rejected {
                    path: self.path.clone(),
                    said: process.log_tail(),
                })
            }
            Err(LiveError::MigrationFailed { description }) => Err(ImageError::Rejected {
                path: self.path.clone(),
                said: description,
            }),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            stream_length: 10,
            stream_hash: xxh3_128(b"0123456789"),
            origin: Origin {
                qemu: Version {
                    major: 10,
                    minor: 0,
                    micro: 2,
                },
                machine_type: crate::spec::MACHINE_TYPE.into(),
                ram_mib: 512,
            },
            producer: "rootvirt 0.1.0".into(),
            created_micros: 1_700_000_000_000_000,
        }
    }

    fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn damage_is_found_at_every_byte_of_the_header() {
        let whole = header().encode();
        for at in 0..HEADER_LENGTH {
            for flip in [1, 0x80, 0xff] {
                let mut page = whole;
                page[at] ^= flip;
                assert!(Header::decode(&page).is_err(), "byte {at} ^ {flip:#x}");
            }
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut page = header().encode();
        page[8] = 2;
        let error = Header::decode(&page).unwrap_err();
        assert_eq!(error, HeaderError::UnknownVersion { found: 2 });
        assert!(error.to_string().contains("version 2"));
    }

    #[tokio::test]
    async fn length_and_content_are_checked_and_the_file_is_named() {
        let mut bytes = header().encode().to_vec();
        bytes.extend_from_slice(b"0123456789");
        let good = write(&bytes);
        MemoryImage::open(good.path())
            .unwrap()
            .verify()
            .await
            .unwrap();

        let short = write(&bytes[..bytes.len() - 1]);
        let error = MemoryImage::open(short.path()).unwrap_err();
        assert!(matches!(
            error,
            ImageError::WrongLength {
                expected: 4106,
                found: 4105,
                ..
            }
        ));
        assert!(error.to_string().contains(short.path().to_str().unwrap()));
        let long = write(&[bytes.as_slice(), b"x"].concat());
        assert!(matches!(
            MemoryImage::open(long.path()),
            Err(ImageError::WrongLength { .. })
        ));
        for cut in [0, 7, 4095] {
            let stub = write(&bytes[..cut]);
            let error = MemoryImage::open(stub.path()).unwrap_err();
            let ImageError::Header { cause, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(cause, HeaderError::TooShort);
        }
        *bytes.last_mut().unwrap() ^= 1;
        let damaged = write(&bytes);
        let image = MemoryImage::open(damaged.path()).unwrap();
        let error = image.verify().await.unwrap_err();
        assert!(matches!(
            error,
            ImageError::WrongHash {
                offset: 4096,
                length: 10,
                ..
            }
        ));
    }

    proptest! {
        #[test]
        fn garbage_never_decodes_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert!(Header::decode(&bytes).is_err());
        }

        #[test]
        fn long_texts_are_cut_between_characters(text in "\\PC{0,80}") {
            let mut header = header();
            header.producer = text.clone();
            let decoded = Header::decode(&header.encode()).unwrap();
            prop_assert!(text.starts_with(&decoded.producer) && decoded.producer.len() < TEXT_LENGTH);
        }
    }
}
