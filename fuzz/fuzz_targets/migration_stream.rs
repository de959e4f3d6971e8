//! A migration stream: whatever comes, in whatever pieces, the parser ends with a frame or an error,
//! and the same one for any pieces.
#![no_main]

use memory_image::stream::{FeedError, Frame, Parser, Sink};
use memory_image::{PAGE, RamBlock};

/// Counts what comes, and checks what the parser promises.
#[derive(Default, Debug, PartialEq)]
struct Seen {
    blocks: Vec<RamBlock>,
    pages: Vec<(usize, u64, bool)>,
}

impl Sink for Seen {
    type Error = ();

    fn blocks(&mut self, blocks: &[RamBlock]) -> Result<(), ()> {
        assert!(self.blocks.is_empty() && !blocks.is_empty());
        self.blocks = blocks.to_vec();
        Ok(())
    }

    fn page(&mut self, block: usize, page: u64, _: &[u8; PAGE]) -> Result<(), ()> {
        assert!(page < self.blocks[block].pages());
        self.pages.push((block, page, true));
        Ok(())
    }

    fn zero(&mut self, block: usize, page: u64) -> Result<(), ()> {
        assert!(page < self.blocks[block].pages());
        self.pages.push((block, page, false));
        Ok(())
    }
}

fn parse(stream: &[u8], piece: usize) -> (Seen, Result<Frame, String>) {
    let mut seen = Seen::default();
    let mut parser = Parser::default();
    for piece in stream.chunks(piece) {
        match parser.feed(piece, &mut seen) {
            Ok(()) => {}
            Err(FeedError::Stream(error)) => return (seen, Err(error.to_string())),
            Err(FeedError::Sink(())) => unreachable!(),
        }
    }
    let frame = parser.finish().map_err(|error| error.to_string());
    (seen, frame)
}

libfuzzer_sys::fuzz_target!(|stream: &[u8]| {
    let whole = parse(stream, stream.len().max(1));
    for piece in [1, 7] {
        assert_eq!(parse(stream, piece), whole);
    }
});
