//! Memory images as sources of pages.

use super::{PageSource, RamSection};
use crate::memory_image::MemoryImage;

impl PageSource for MemoryImage {
    fn blocks(&self) -> Vec<(String, u64)> {
        let blocks = MemoryImage::blocks(self).iter();
        blocks.map(|b| (b.name.clone(), b.length)).collect()
    }

    fn configuration(&self) -> &[u8] {
        MemoryImage::configuration(self)
    }

    fn devices(&self) -> &[u8] {
        self.device_state()
    }

    fn ram_section(&self) -> RamSection {
        let ram = self.header().ram;
        RamSection {
            id: ram.id,
            instance: ram.instance,
            version: ram.version,
            footers: ram.footers,
        }
    }

    fn is_zero(&self, block: usize, page: u64) -> bool {
        MemoryImage::is_zero(self, block, page).unwrap_or(true)
    }

    fn read(&self, block: usize, first: u64, buffer: &mut [u8]) -> Result<(), String> {
        MemoryImage::read(self, block, first, buffer).map_err(|error| error.to_string())
    }

    fn expect(&self, block: usize, first: u64, pages: u64) {
        self.prefetch(block, first, pages);
    }

    fn data_pages(&self) -> u64 {
        MemoryImage::data_pages(self)
    }

    fn wanted_first(&self, most: usize) -> Vec<(usize, u64)> {
        self.first_written(most)
    }
}
