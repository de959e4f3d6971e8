//! Guests made up: their streams as QEMU would send them, and files for their images.

use memory_image::builder::{Builder, Counts, Output, Plan};
use memory_image::stream::{FeedError, Frame, Parser};
use memory_image::{Compression, Header, ImageId, MemoryImage, Origin, PAGE, Version};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A guest's memory: blocks of pages, each filled from a number; 0 is a page of zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    pub blocks: Vec<(String, Vec<u32>)>,
}

impl Guest {
    pub fn new(blocks: &[(&str, &[u32])]) -> Guest {
        let block = |(name, pages): &(&str, &[u32])| (String::from(*name), pages.to_vec());
        Guest {
            blocks: blocks.iter().map(block).collect(),
        }
    }

    /// What QEMU would send.
    pub fn stream(&self) -> Vec<u8> {
        let mut out = begin(&self.blocks, true);
        let mut last = None;
        for (number, (name, pages)) in self.blocks.iter().enumerate() {
            out.extend(part(7));
            for (page, seed) in pages.iter().enumerate() {
                let named = last != Some(number);
                record(&mut out, name, page as u64, *seed, named);
                last = Some(number);
            }
            end_part(&mut out, 7, true);
        }
        out.extend(devices(&[("timer", 0), ("cpu", 1)], true));
        out
    }

    pub fn bytes(&self, block: usize) -> Vec<u8> {
        self.blocks[block].1.iter().flat_map(|s| page(*s)).collect()
    }
}

/// The page with this number.
pub fn page(seed: u32) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
        // Half of it compresses well.
        let word = match (seed, at) {
            (0, _) => 0,
            (_, 0..512) => seed,
            _ => seed
                .wrapping_mul(0x9e37_79b1)
                .wrapping_add((at * at) as u32),
        };
        four.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

pub fn begin(blocks: &[(String, Vec<u32>)], footers: bool) -> Vec<u8> {
    let mut out = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0".to_vec();
    out.extend(b"\x01\0\0\0\x07\x03ram\0\0\0\0\0\0\0\x04");
    let total: usize = blocks.iter().map(|(_, pages)| pages.len() * PAGE).sum();
    out.extend((total as u64 | 4).to_be_bytes());
    for (name, pages) in blocks {
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.extend((pages.len() as u64 * PAGE as u64).to_be_bytes());
    }
    end_part(&mut out, 7, footers);
    out
}

pub fn part(id: u32) -> Vec<u8> {
    let mut out = vec![2];
    out.extend(id.to_be_bytes());
    out
}

pub fn record(out: &mut Vec<u8>, name: &str, number: u64, seed: u32, named: bool) {
    let flags = if seed == 0 { 2 } else { 8 } | if named { 0 } else { 0x20 };
    out.extend(((number * PAGE as u64) | flags).to_be_bytes());
    if named {
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
    }
    match seed {
        0 => out.push(0),
        _ => out.extend(page(seed)),
    }
}

pub fn end_part(out: &mut Vec<u8>, id: u32, footers: bool) {
    out.extend(0x10u64.to_be_bytes());
    if footers {
        out.push(0x7e);
        out.extend(id.to_be_bytes());
    }
}

pub fn devices(list: &[(&str, u32)], footers: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = String::new();
    for (number, (name, instance)) in list.iter().enumerate() {
        out.push(4);
        out.extend((number as u32).to_be_bytes());
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.extend(instance.to_be_bytes());
        out.extend(2u32.to_be_bytes());
        out.extend(format!("state of {name}").bytes());
        if footers {
            out.push(0x7e);
            out.extend((number as u32).to_be_bytes());
        }
        if number > 0 {
            text.push(',');
        }
        text += &format!(r#"{{"name":"{name}","instance_id":{instance},"fields":[]}}"#);
    }
    let text = format!(r#"{{"page_size":4096,"devices":[{text}]}}"#);
    out.extend([0, 6]);
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text.bytes());
    out
}

/// Writes to a file at once.
pub struct ToFile(pub File, pub usize);

impl Output for ToFile {
    type Buffer = Vec<u8>;
    type Error = io::Error;

    fn buffer(&mut self) -> io::Result<Vec<u8>> {
        Ok(vec![0xaa; self.1])
    }

    fn write(&mut self, offset: u64, buffer: Vec<u8>, length: usize) -> io::Result<()> {
        assert_eq!(offset % PAGE as u64, 0);
        assert_eq!(length % PAGE, 0);
        self.0.write_all_at(&buffer[..length], offset)
    }
}

/// A folder of images.
pub struct Shelf {
    pub dir: tempfile::TempDir,
    pub paths: BTreeMap<ImageId, PathBuf>,
    pub compression: Compression,
}

impl Shelf {
    pub fn new() -> Shelf {
        Shelf {
            dir: tempfile::tempdir().unwrap(),
            paths: BTreeMap::new(),
            compression: Compression::None,
        }
    }

    pub fn path(&self, id: u128) -> PathBuf {
        self.dir.path().join(format!("{id}.img"))
    }

    pub fn plan(&self, id: u128, parent: Option<u128>) -> Plan {
        Plan {
            id: ImageId(id),
            parent: parent.map(|parent| Arc::new(self.open(parent))),
            compression: self.compression,
            origin: Origin {
                qemu: Version {
                    major: 10,
                    minor: 0,
                    micro: 2,
                },
                machine_type: "pc-q35-10.0".into(),
                ram_mib: 1,
            },
            producer: "a test".into(),
            created_micros: 1_700_000_000_000_000,
        }
    }

    /// Makes the image of a stream.
    pub fn keep(&mut self, id: u128, parent: Option<u128>, stream: &[u8]) -> (Header, Counts) {
        let path = self.path(id);
        let file = File::create(&path).unwrap();
        let mut builder = Builder::new(self.plan(id, parent), ToFile(file, 5 * PAGE)).unwrap();
        let frame = parse(stream, stream.len().max(1), &mut builder).unwrap();
        let counts = builder.counts();
        let (header, ToFile(file, _)) = builder.finish(&frame).unwrap();
        file.set_len(header.file_length()).unwrap();
        self.paths.insert(ImageId(id), path);
        (header, counts)
    }

    pub fn try_open(&self, id: u128) -> Result<MemoryImage, memory_image::ImageError> {
        MemoryImage::open(&self.path(id), &|id| self.paths.get(&id).cloned())
    }

    pub fn open(&self, id: u128) -> MemoryImage {
        self.try_open(id).unwrap()
    }
}

/// Feeds a stream in pieces of this size.
pub fn parse<O: Output>(
    stream: &[u8],
    piece: usize,
    builder: &mut Builder<O>,
) -> Result<Frame, String>
where
    O::Error: std::fmt::Debug,
{
    let mut parser = Parser::default();
    for piece in stream.chunks(piece) {
        parser.feed(piece, builder).map_err(|error| match error {
            FeedError::Stream(error) => error.to_string(),
            FeedError::Sink(error) => format!("{error:?}"),
        })?;
    }
    parser.finish().map_err(|error| error.to_string())
}

/// Whether an image holds what a guest held.
pub fn assert_holds(image: &MemoryImage, guest: &Guest) {
    assert_eq!(image.blocks().len(), guest.blocks.len());
    for (number, (name, pages)) in guest.blocks.iter().enumerate() {
        assert_eq!(&image.blocks()[number].name, name);
        let mut all = vec![0xee; pages.len() * PAGE];
        image.read(number, 0, &mut all).unwrap();
        assert!(all == guest.bytes(number), "block {name}");
        for (at, seed) in pages.iter().enumerate() {
            assert_eq!(image.is_zero(number, at as u64), Some(*seed == 0));
        }
    }
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}
