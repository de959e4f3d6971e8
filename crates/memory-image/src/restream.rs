//! The way back: a plain migration stream out of an image, which any QEMU that fits can load.

use crate::PAGE;
use crate::error::ImageError;
use crate::image::{MemoryImage, RunKind};
use std::io::{self, Write};

/// Pages that are read at once.
const AT_ONCE: u64 = 256;

const FLAG_ZERO: u64 = 0x02;
const FLAG_MEM_SIZE: u64 = 0x04;
const FLAG_PAGE: u64 = 0x08;
const FLAG_EOS: u64 = 0x10;
const FLAG_CONTINUE: u64 = 0x20;

impl MemoryImage {
    /// Writes the stream to `out` (which should have a buffer), all pages in one part of the memory
    /// section.
    pub fn write_stream(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        let failed = |cause| ImageError::Stream {
            path: self.path().into(),
            cause,
        };
        self.begin_stream(out).map_err(failed)?;
        let ram = self.header().ram;
        // The last part, so that QEMU calls the memory complete.
        out.write_all(&[3]).map_err(failed)?;
        out.write_all(&ram.id.to_be_bytes()).map_err(failed)?;
        for block in 0..self.blocks().len() {
            self.write_block(block, out)?;
        }
        self.finish_stream(out).map_err(failed)
    }

    /// Everything behind the last page.
    fn finish_stream(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&FLAG_EOS.to_be_bytes())?;
        self.end_section(out)?;
        out.write_all(self.device_state())?;
        out.flush()
    }

    /// Everything before the first page.
    fn begin_stream(&self, out: &mut dyn Write) -> io::Result<()> {
        let ram = self.header().ram;
        out.write_all(b"QEVM")?;
        out.write_all(&3u32.to_be_bytes())?;
        out.write_all(self.configuration())?;
        out.write_all(&[1])?;
        out.write_all(&ram.id.to_be_bytes())?;
        out.write_all(b"\x03ram")?;
        out.write_all(&ram.instance.to_be_bytes())?;
        out.write_all(&ram.version.to_be_bytes())?;
        let total: u64 = self.blocks().iter().map(|block| block.length).sum();
        out.write_all(&(total | FLAG_MEM_SIZE).to_be_bytes())?;
        for block in self.blocks() {
            write_name(&block.name, out)?;
            out.write_all(&block.length.to_be_bytes())?;
        }
        out.write_all(&FLAG_EOS.to_be_bytes())?;
        self.end_section(out)
    }

    fn end_section(&self, out: &mut dyn Write) -> io::Result<()> {
        let ram = self.header().ram;
        match ram.footers {
            true => {
                out.write_all(&[0x7e])?;
                out.write_all(&ram.id.to_be_bytes())
            }
            false => Ok(()),
        }
    }

    /// The records of all pages of a block.
    fn write_block(&self, block: usize, out: &mut dyn Write) -> Result<(), ImageError> {
        let failed = |cause| ImageError::Stream {
            path: self.path().into(),
            cause,
        };
        let name = self.blocks().get(block).map_or("", |b| b.name.as_str());
        let record = |page: u64, flag, first: bool, body: &[u8], out: &mut dyn Write| {
            let more = if first { 0 } else { FLAG_CONTINUE };
            let word: u64 = (page * PAGE as u64) | flag | more;
            out.write_all(&word.to_be_bytes())?;
            if first {
                write_name(name, out)?;
            }
            out.write_all(body)
        };
        let mut buffer = vec![0; usize::try_from(AT_ONCE).unwrap_or(1) * PAGE];
        for run in self.runs(block) {
            if run.kind == RunKind::Zero {
                for page in run.first..run.first + run.pages {
                    record(page, FLAG_ZERO, page == 0, &[0], out).map_err(failed)?;
                }
                continue;
            }
            let mut page = run.first;
            while page < run.first + run.pages {
                let pages = AT_ONCE.min(run.first + run.pages - page);
                let length = usize::try_from(pages).unwrap_or(0) * PAGE;
                let bytes = buffer.get_mut(..length).unwrap_or_default();
                self.read(block, page, bytes)?;
                for bytes in bytes.chunks_exact(PAGE) {
                    record(page, FLAG_PAGE, page == 0, bytes, out).map_err(failed)?;
                    page += 1;
                }
            }
        }
        Ok(())
    }
}

fn write_name(name: &str, out: &mut dyn Write) -> io::Result<()> {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    out.write_all(&[length])?;
    out.write_all(name.as_bytes())
}
