//! The first page of a memory image, readable without the rest.
//!
//! Format version 2. The file is, in this order and without gaps: the header (one page), the data
//! (pages of the guest in the order in which they came, so that writing is purely sequential and
//! the file is exactly as long as what it stores), and the sections with what is known about them.
//! All numbers are little-endian:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic `RVMEMIMG` |
//! | 8 | 4 | format version |
//! | 12 | 4 | length of the header, 4096 |
//! | 16 | 8 | offset of the data, 4096 |
//! | 24 | 8 | length of the data, whole pages |
//! | 32 | 8 | length of the file |
//! | 40 | 8 | creation, microseconds since 1970 |
//! | 48 | 8 | guest memory in MiB |
//! | 56 | 12 | QEMU's version: major, minor, micro |
//! | 68 | 4 | page size, 4096 |
//! | 72 | 4 | compression: 0 none, 1 zstd |
//! | 76 | 4 | 1 if the sections of the stream end in footers, else 0 |
//! | 80 | 16 | identity |
//! | 96 | 16 | identity of the parent, or zero |
//! | 112 | 16 | content hash: over the hashes of all pages, those of the parents included |
//! | 128 | 64 | machine type, UTF-8, padded with zeros |
//! | 192 | 64 | producer, UTF-8, padded with zeros |
//! | 256 | 12 | the stream's memory section: id, instance, version |
//! | 320 | 192 | secret of the hash, random, the same in all images of a lineage |
//! | 512 | 6 x 32 | sections: offset, length, xxh3-128; in the order of [`Section`] |
//! | 4080 | 16 | xxh3-128 of everything before |
//!
//! All other bytes of the header are zero. The sections are contiguous, begin where the data ends
//! and end where the file ends; they have the checksums of the table above. What a section
//! holds, `index.rs` says. An image is never changed once it has its name; it may be replaced by
//! another with the same identity and content (one without parents).
//!
//! The hash of a page is xxh3-128 with the secret of the lineage. It decides whether a page equals
//! the parent's: reading the parent's page for it would cost as much of the disk as writing it. Two
//! different pages agree by accident once in 2^128, and a guest that wanted to make two agree
//! would have to know the secret, which never enters it.

use crate::error::HeaderError;
use std::fmt;
use std::str::FromStr;
use xxhash_rust::xxh3::xxh3_128;

/// The version that this program writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 2;
/// Length of the header, and offset of the data.
pub const HEADER_LENGTH: usize = 4096;
/// Length of the hash's secret.
pub const SECRET_LENGTH: usize = 192;

const MAGIC: &[u8; 8] = b"RVMEMIMG";
const MACHINE_TYPE_AT: usize = 128;
const PRODUCER_AT: usize = 192;
const SECRET_AT: usize = 320;
const TABLE_AT: usize = 512;
const TEXT_LENGTH: usize = 64;
const CHECKSUM_AT: usize = HEADER_LENGTH - 16;

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub micro: u32,
}

/// The identity of an image; it stays when the image is flattened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub u128);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a memory image was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// QEMU's version.
    pub qemu: Version,
    /// QEMU's machine type, at most 63 bytes.
    pub machine_type: String,
    /// Guest memory in MiB.
    pub ram_mib: u64,
}

/// How pages are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// In groups of 16, each compressed by itself with zstd.
    Zstd,
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Compression, String> {
        match text {
            "off" => Ok(Compression::None),
            "zstd" => Ok(Compression::Zstd),
            other => Err(format!("{other:?} is neither off nor zstd")),
        }
    }
}

/// The memory section of the stream, as QEMU numbered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamSection {
    /// Section number.
    pub id: u32,
    /// Instance.
    pub instance: u32,
    /// Version of its format.
    pub version: u32,
    /// Whether sections end in footers.
    pub footers: bool,
}

/// The sections behind the data, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The stream between its version and its first section.
    Configuration,
    /// The guest's memory blocks.
    Blocks,
    /// Which pages are zero.
    Zero,
    /// Which pages the data holds.
    Slots,
    /// Where each compressed group lies.
    Groups,
    /// The stream behind memory: the devices, to the last byte.
    Devices,
}

/// Their number.
pub const SECTIONS: usize = 6;

impl Section {
    /// All, in the order of the file.
    pub const ALL: [Section; SECTIONS] = [
        Section::Configuration,
        Section::Blocks,
        Section::Zero,
        Section::Slots,
        Section::Groups,
        Section::Devices,
    ];

    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Section::Configuration => "the configuration section",
            Section::Blocks => "the list of memory blocks",
            Section::Zero => "the map of zero pages",
            Section::Slots => "the index of pages",
            Section::Groups => "the index of compressed groups",
            Section::Devices => "the device state",
        }
    }
}

/// Where a section lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// xxh3-128 of its bytes.
    pub hash: u128,
}

/// What the header of a memory image says.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Its identity.
    pub id: ImageId,
    /// The image that holds the pages that this one lacks.
    pub parent: Option<ImageId>,
    /// Hash over the whole content, that of the parents included.
    pub content: u128,
    /// Length of the data.
    pub data_length: u64,
    /// How pages are stored.
    pub compression: Compression,
    /// The stream's memory section.
    pub ram: RamSection,
    /// Secret of the pages' hashes.
    pub secret: [u8; SECRET_LENGTH],
    /// The sections, in the order of [`Section::ALL`].
    pub sections: [Extent; SECTIONS],
    /// What the image was taken from.
    pub origin: Origin,
    /// Program and version that wrote the file.
    pub producer: String,
    /// When, in microseconds since 1970.
    pub created_micros: i64,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret is left out.
        f.debug_struct("Header")
            .field("id", &self.id)
            .field("parent", &self.parent)
            .field("content", &format_args!("{:032x}", self.content))
            .field("data_length", &self.data_length)
            .field("compression", &self.compression)
            .field("ram", &self.ram)
            .field("sections", &self.sections)
            .field("origin", &self.origin)
            .field("producer", &self.producer)
            .field("created_micros", &self.created_micros)
            .finish_non_exhaustive()
    }
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
        put(24, &self.data_length.to_le_bytes());
        put(32, &self.file_length().to_le_bytes());
        put(40, &self.created_micros.to_le_bytes());
        put(48, &self.origin.ram_mib.to_le_bytes());
        put(56, &self.origin.qemu.major.to_le_bytes());
        put(60, &self.origin.qemu.minor.to_le_bytes());
        put(64, &self.origin.qemu.micro.to_le_bytes());
        put(68, &4096u32.to_le_bytes());
        put(
            72,
            &u32::from(self.compression == Compression::Zstd).to_le_bytes(),
        );
        put(76, &u32::from(self.ram.footers).to_le_bytes());
        put(80, &self.id.0.to_le_bytes());
        put(96, &self.parent.map_or(0, |id| id.0).to_le_bytes());
        put(112, &self.content.to_le_bytes());
        put(MACHINE_TYPE_AT, fitting(&self.origin.machine_type));
        put(PRODUCER_AT, fitting(&self.producer));
        put(256, &self.ram.id.to_le_bytes());
        put(260, &self.ram.instance.to_le_bytes());
        put(264, &self.ram.version.to_le_bytes());
        put(SECRET_AT, &self.secret);
        for (number, extent) in self.sections.iter().enumerate() {
            let at = TABLE_AT + number * 32;
            put(at, &extent.offset.to_le_bytes());
            put(at + 8, &extent.length.to_le_bytes());
            put(at + 16, &extent.hash.to_le_bytes());
        }
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

    /// Reads the first page of a file. The version is looked at first, so that another format is
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
        if xxh3_128(body) != fields.number128(CHECKSUM_AT)? {
            return Err(HeaderError::Checksum);
        }
        fields.expect32(12, 4096, "the length of the header")?;
        fields.expect32(68, 4096, "the page size")?;
        let bad = |what, offset| HeaderError::Field { what, offset };
        if fields.number64(16)? != 4096 {
            return Err(bad("the offset of the data", 16));
        }
        let data_length = fields.number64(24)?;
        // A file cannot be longer than what an offset can hold.
        if !data_length.is_multiple_of(4096) || data_length > i64::MAX as u64 / 2 {
            return Err(bad("the length of the data", 24));
        }
        let id = ImageId(fields.number128(80)?);
        if id.0 == 0 {
            return Err(bad("the identity", 80));
        }
        let parent = Some(ImageId(fields.number128(96)?)).filter(|id| id.0 != 0);
        if parent == Some(id) {
            return Err(bad("the parent", 96));
        }
        let header = Header {
            id,
            parent,
            content: fields.number128(112)?,
            data_length,
            compression: match fields.number32(72)? {
                0 => Compression::None,
                1 => Compression::Zstd,
                _ => return Err(bad("the compression", 72)),
            },
            ram: RamSection {
                id: fields.number32(256)?,
                instance: fields.number32(260)?,
                version: fields.number32(264)?,
                footers: match fields.number32(76)? {
                    0 => false,
                    1 => true,
                    _ => return Err(bad("the use of footers", 76)),
                },
            },
            secret: fields.bytes(SECRET_AT)?,
            sections: fields.sections(data_length)?,
            origin: Origin {
                qemu: Version {
                    major: fields.number32(56)?,
                    minor: fields.number32(60)?,
                    micro: fields.number32(64)?,
                },
                machine_type: fields
                    .text(MACHINE_TYPE_AT)
                    .ok_or(bad("the machine type", MACHINE_TYPE_AT))?,
                ram_mib: fields.number64(48)?,
            },
            producer: fields
                .text(PRODUCER_AT)
                .ok_or(bad("the producer", PRODUCER_AT))?,
            created_micros: i64::from_le_bytes(fields.bytes(40)?),
        };
        if fields.number64(32)? != header.file_length() {
            return Err(bad("the length of the file", 32));
        }
        Ok(header)
    }

    /// Length of a file with this header.
    pub fn file_length(&self) -> u64 {
        let end = |extent: &Extent| extent.offset.saturating_add(extent.length);
        self.sections.last().map_or(0, end)
    }

    /// Where a section lies.
    pub fn section(&self, section: Section) -> Extent {
        let all = Section::ALL.iter().zip(&self.sections);
        let mut found = all.filter(|(s, _)| **s == section);
        found.next().map(|(_, extent)| *extent).unwrap_or_default()
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

    fn number128(&self, at: usize) -> Result<u128, HeaderError> {
        self.bytes(at).map(u128::from_le_bytes)
    }

    fn expect32(&self, at: usize, value: u32, what: &'static str) -> Result<(), HeaderError> {
        match self.number32(at)? == value {
            true => Ok(()),
            false => Err(HeaderError::Field { what, offset: at }),
        }
    }

    fn text(&self, at: usize) -> Option<String> {
        let field: [u8; TEXT_LENGTH] = self.bytes(at).ok()?;
        let (text, padding) = field.split_at(field.iter().position(|b| *b == 0)?);
        let padded = padding.iter().all(|b| *b == 0);
        let text = std::str::from_utf8(text).ok()?;
        padded.then(|| text.to_owned())
    }

    /// The table of sections, which follow each other without gaps behind the data.
    fn sections(&self, data_length: u64) -> Result<[Extent; SECTIONS], HeaderError> {
        let mut sections = [Extent::default(); SECTIONS];
        let mut end = 4096 + data_length;
        for (number, extent) in sections.iter_mut().enumerate() {
            let at = TABLE_AT + number * 32;
            *extent = Extent {
                offset: self.number64(at)?,
                length: self.number64(at + 8)?,
                hash: self.number128(at + 16)?,
            };
            let next = end.checked_add(extent.length);
            end = match next.filter(|next| i64::try_from(*next).is_ok()) {
                Some(next) if extent.offset == end => next,
                _ => {
                    return Err(HeaderError::Field {
                        what: "a section's place",
                        offset: at,
                    });
                }
            };
        }
        Ok(sections)
    }
}
