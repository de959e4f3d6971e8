//! Taking the pages of the images below into an image, so that it stands on fewer or on none.

use crate::PAGE;
use crate::builder::{BuildError, Builder, Output, Plan};
use crate::error::ImageError;
use crate::file::{ImageFile, io_error};
use crate::header::{Compression, HEADER_LENGTH};
use crate::image::MemoryImage;
use crate::index::SLOT_LENGTH;
use crate::stream::{Frame, Sink};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Bytes that are written at once.
const AT_ONCE: usize = 1 << 20;
/// How much may wait in the cache before it is written out.
const SYNC_EVERY: u64 = 64 << 20;

impl MemoryImage {
    /// Most bytes that the image's own file would take if it stood on the file with this number in the
    /// chain (1 is its parent), or on none; to be compared with what it saves.
    pub fn length_on(&self, onto: Option<usize>) -> u64 {
        let mut pages = 0;
        for block in 0..self.blocks().len() {
            let own = |place: &&crate::image::Place| taken(**place, onto);
            pages += self.places(block).iter().filter(own).count() as u64;
        }
        let sections: u64 = self.header().sections.iter().map(|s| s.length).sum();
        let slots = self.pages_in_own_file() * SLOT_LENGTH as u64;
        let page = (PAGE + SLOT_LENGTH) as u64;
        HEADER_LENGTH as u64 + sections.saturating_sub(slots) + pages * page
    }

    /// Writes the same image, with the same identity, so that it stands on the file with this
    /// number in the chain (1 is its parent) or on none. The file gets its name `path` (which may
    /// be the image's own) when it is whole and durable; `temporary`, in the same folder, is used
    /// until then, and removed after a failure.
    ///
    /// `progress` is told how many bytes of how many are done; it may wait, and ends the work by
    /// saying so.
    pub fn flatten(
        &self,
        onto: Option<usize>,
        temporary: &Path,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), ImageError> {
        self.write_flat(onto, self.header().compression, temporary, progress)?;
        if let Err(cause) = std::fs::rename(temporary, path) {
            let _ = std::fs::remove_file(temporary);
            return Err(io_error("renamed", temporary, 0, cause));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|e| io_error("synced", folder, 0, e))
    }

    /// The first half of [`MemoryImage::flatten`], with its pages stored in this way: the file is
    /// whole and durable under its temporary name, or removed again.
    pub fn write_flat(
        &self,
        onto: Option<usize>,
        compression: Compression,
        temporary: &Path,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), ImageError> {
        let written = self.write_pages(onto, compression, temporary, progress);
        if written.is_err() {
            // It may not be there.
            let _ = std::fs::remove_file(temporary);
        }
        written
    }

    fn write_pages(
        &self,
        onto: Option<usize>,
        compression: Compression,
        temporary: &Path,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), ImageError> {
        let made = |cause| io_error("made", temporary, 0, cause);
        let _ = std::fs::remove_file(temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)
            .map_err(made)?;
        let named = |error: BuildError<io::Error>| error.at(temporary);
        let header = self.header();
        let plan = Plan {
            id: header.id,
            parent: match onto {
                Some(number) => Some(Arc::new(self.below(number)?)),
                None => None,
            },
            compression,
            origin: header.origin.clone(),
            producer: header.producer.clone(),
            created_micros: header.created_micros,
        };
        let output = Buffered { file, unsynced: 0 };
        let mut builder = Builder::of_lineage(plan, header.secret, output).map_err(named)?;
        builder.blocks(self.blocks()).map_err(named)?;
        let total = self.length_on(onto);
        let mut buffer = vec![0; PAGE];
        let mut done = 0;
        for block in 0..self.blocks().len() {
            for (number, place) in self.places(block).iter().enumerate() {
                let page = number as u64;
                if place.slot().is_none() {
                    builder.zero(block, page).map_err(named)?;
                } else if taken(*place, onto) {
                    self.read(block, page, &mut buffer)?;
                    let bytes = buffer.first_chunk::<PAGE>();
                    let bytes = bytes.ok_or(ImageError::Cancelled)?;
                    builder.page(block, page, bytes).map_err(named)?;
                    done += PAGE as u64;
                    if done.is_multiple_of(AT_ONCE as u64) && progress(done, total).is_break() {
                        return Err(ImageError::Cancelled);
                    }
                } else {
                    builder.inherit(block, page, self.hash_at(*place));
                }
            }
        }
        let frame = Frame {
            configuration: self.configuration().to_vec(),
            ram: header.ram,
            devices: self.device_state().to_vec(),
        };
        let (new, output) = builder.finish(&frame).map_err(named)?;
        if new.content != header.content {
            let what = "copying its pages gave another content".into();
            return Err(ImageError::Contradiction {
                path: self.path().into(),
                what,
            });
        }
        let end = || {
            output.file.set_len(new.file_length())?;
            output.file.sync_all()
        };
        end().map_err(|cause| io_error("written", temporary, 0, cause))?;
        let _ = progress(total, total);
        Ok(())
    }

    /// The image with this number in the chain.
    fn below(&self, number: usize) -> Result<MemoryImage, ImageError> {
        let files = self.chain().get(number..).unwrap_or_default();
        let files: Result<Vec<ImageFile>, ImageError> =
            files.iter().map(ImageFile::again).collect();
        MemoryImage::of(files?)
    }
}

/// Whether a page lies above the file that the image is to stand on.
fn taken(place: crate::image::Place, onto: Option<usize>) -> bool {
    let file = place.slot().map(|(file, _)| file);
    file.is_some_and(|file| onto.is_none_or(|onto| file < onto))
}

/// A file that is written through the cache, which is not to fill up with it.
struct Buffered {
    file: File,
    unsynced: u64,
}

impl Output for Buffered {
    type Buffer = Vec<u8>;
    type Error = io::Error;

    fn buffer(&mut self) -> io::Result<Vec<u8>> {
        Ok(vec![0; AT_ONCE])
    }

    fn write(&mut self, offset: u64, buffer: Vec<u8>, length: usize) -> io::Result<()> {
        self.file
            .write_all_at(buffer.get(..length).unwrap_or(&buffer), offset)?;
        self.unsynced += length as u64;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.sync_data()?;
            // A hint: nothing depends on it.
            let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        }
        Ok(())
    }
}
