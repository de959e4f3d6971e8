//! A recorded stream as a source of pages.

use qemu::postcopy::{PageSource, RamSection};
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE: usize = 4096;

pub struct Recorded {
    file: std::fs::File,
    blocks: Vec<(String, u64)>,
    configuration: Vec<u8>,
    devices: Vec<u8>,
    ram: RamSection,
    /// Where in the file each page with data is.
    pages: HashMap<(usize, u64), u64>,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, length: usize) -> &[u8] {
        let found = &self.bytes[self.at..self.at + length];
        self.at += length;
        found
    }
    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }
    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }
    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }
    fn name(&mut self) -> String {
        let length = self.u8() as usize;
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }
}

impl Recorded {
    pub fn open(path: &Path) -> Recorded {
        let bytes = std::fs::read(path).unwrap();
        let mut c = Cursor {
            bytes: &bytes,
            at: 4096 + 8,
        };
        let start = c.at;
        assert_eq!(c.u8(), 7);
        let length = c.u32() as usize;
        c.take(length);
        // Subsections.
        while c.bytes[c.at] == 5 {
            c.u8();
            let name = c.name();
            c.u32();
            match name.as_str() {
                "configuration/capabilities" => {
                    let count = c.u32();
                    for _ in 0..count {
                        c.name();
                    }
                }
                "configuration/target-page-bits" => {
                    c.u32();
                }
                other => panic!("{other}"),
            }
        }
        let configuration = bytes[start..c.at].to_vec();
        let mut found = Recorded {
            file: std::fs::File::open(path).unwrap(),
            blocks: Vec::new(),
            configuration,
            devices: Vec::new(),
            ram: RamSection::default(),
            pages: HashMap::new(),
        };
        let mut block = 0;
        loop {
            match c.u8() {
                1 => {
                    found.ram.id = c.u32();
                    assert_eq!(c.name(), "ram");
                    found.ram.instance = c.u32();
                    found.ram.version = c.u32();
                    found.pages(&mut c, &mut block);
                }
                2 | 3 => {
                    c.u32();
                    found.pages(&mut c, &mut block);
                }
                4 => break,
                other => panic!("section {other}"),
            }
            if c.bytes[c.at] == 0x7e {
                found.ram.footers = true;
                c.take(5);
            }
        }
        found.devices = bytes[c.at - 1..].to_vec();
        found
    }

    fn pages(&mut self, c: &mut Cursor<'_>, block: &mut usize) {
        loop {
            let place = c.u64();
            let (flags, offset) = (place & 0xfff, place & !0xfff);
            if flags & 0x10 != 0 {
                return;
            }
            if flags & 0x04 != 0 {
                let mut left = offset;
                while left > 0 {
                    let name = c.name();
                    let length = c.u64();
                    left -= length;
                    self.blocks.push((name, length));
                }
                continue;
            }
            if flags & 0x20 == 0 {
                let name = c.name();
                *block = self.blocks.iter().position(|b| b.0 == name).unwrap();
            }
            let key = (*block, offset / PAGE as u64);
            match flags & !0x20 {
                0x02 => {
                    assert_eq!(c.u8(), 0);
                    self.pages.remove(&key);
                }
                0x08 => {
                    self.pages.insert(key, c.at as u64);
                    c.take(PAGE);
                }
                other => panic!("flags {other:#x}"),
            }
        }
    }
}

impl PageSource for Recorded {
    fn blocks(&self) -> Vec<(String, u64)> {
        self.blocks.clone()
    }
    fn configuration(&self) -> &[u8] {
        &self.configuration
    }
    fn devices(&self) -> &[u8] {
        &self.devices
    }
    fn ram_section(&self) -> RamSection {
        self.ram
    }
    fn is_zero(&self, block: usize, page: u64) -> bool {
        !self.pages.contains_key(&(block, page))
    }
    fn read(&self, block: usize, first: u64, buffer: &mut [u8]) -> Result<(), String> {
        for (page, bytes) in (first..).zip(buffer.chunks_mut(PAGE)) {
            match self.pages.get(&(block, page)) {
                Some(at) => self
                    .file
                    .read_exact_at(bytes, *at)
                    .map_err(|e| e.to_string())?,
                None => bytes.fill(0),
            }
        }
        Ok(())
    }
    fn data_pages(&self) -> u64 {
        self.pages.len() as u64
    }
}
