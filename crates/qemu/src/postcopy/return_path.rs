//! What the destination of a postcopy migration answers: requests for pages, mostly.
//!
//! A message is its kind (be16), the length of its data (be16) and the data. The bitmap of received
//! pages is the exception: it follows the message, with its own length.

use std::io::{self, Read};

const SHUT: u16 = 1;
const PONG: u16 = 2;
const REQUEST_NAMED: u16 = 3;
const REQUEST: u16 = 4;
const BITMAP: u16 = 5;
const RESUME_ACK: u16 = 6;
const SWITCHOVER_ACK: u16 = 7;

/// No message has more data: a place, a length and a name.
const MOST_DATA: usize = 8 + 4 + 1 + 255;
const BITMAP_END: u64 = 0x0123_4567_89ab_cdef;

/// A message of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It will say no more; not zero, if it has failed.
    Shut(u32),
    /// The answer to a ping.
    Pong(u32),
    /// The guest waits for `length` bytes at `start` of a block: of the block of the last request,
    /// if it is not named.
    Request {
        /// Offset in the block.
        start: u64,
        /// Bytes wanted.
        length: u32,
        /// The block.
        block: Option<String>,
    },
    /// Which pages of a block it has, lowest bit first.
    Received {
        /// The block.
        block: String,
        /// One bit a page of the guest.
        bits: Vec<u8>,
    },
    /// It goes on after a broken connection.
    ResumeAck(u32),
    /// It has no objection to the guest's switching over.
    SwitchoverAck,
}

/// What a destination cannot mean.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReturnPathError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("QEMU sent a message of the unknown kind {kind} with {length} bytes")]
    Unknown { kind: u16, length: u16 },
    #[error("QEMU sent a message of kind {kind} with {length} bytes of data")]
    WrongLength { kind: u16, length: u16 },
    #[error("QEMU named a memory block in a way that is no text")]
    BadName,
    #[error("QEMU sent a map of received pages for {block} that does not fit it")]
    BadBitmap { block: String },
}

/// Reads the next message; nothing, where the connection ends between two messages. `pages` knows
/// how many pages a block has.
pub fn read_message(
    from: &mut impl Read,
    pages: &dyn Fn(&str) -> Option<u64>,
) -> Result<Option<Message>, ReturnPathError> {
    let Some(first) = first_byte(from)? else {
        return Ok(None);
    };
    let [second, length @ ..]: [u8; 3] = bytes(from)?;
    let kind = u16::from_be_bytes([first, second]);
    let length = u16::from_be_bytes(length);
    let wrong = || ReturnPathError::WrongLength { kind, length };
    if usize::from(length) > MOST_DATA {
        return Err(wrong());
    }
    let mut data = vec![0; usize::from(length)];
    from.read_exact(&mut data)?;
    let number = || match data.as_slice() {
        [a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(wrong()),
    };
    let message = match kind {
        SHUT => Message::Shut(number()?),
        PONG => Message::Pong(number()?),
        RESUME_ACK => Message::ResumeAck(number()?),
        SWITCHOVER_ACK if data.is_empty() => Message::SwitchoverAck,
        REQUEST | REQUEST_NAMED => {
            let (start, rest) = data.split_first_chunk::<8>().ok_or_else(wrong)?;
            let (wanted, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
            Message::Request {
                start: u64::from_be_bytes(*start),
                length: u32::from_be_bytes(*wanted),
                block: match kind {
                    REQUEST if rest.is_empty() => None,
                    REQUEST => return Err(wrong()),
                    _ => Some(name(rest).ok_or_else(wrong)??),
                },
            }
        }
        BITMAP => {
            let block = name(&data).ok_or_else(wrong)??;
            let bits = read_bitmap(from, &block, pages(&block))?;
            Message::Received { block, bits }
        }
        _ => return Err(ReturnPathError::Unknown { kind, length }),
    };
    Ok(Some(message))
}

/// A name with its length before it, and nothing behind.
fn name(data: &[u8]) -> Option<Result<String, ReturnPathError>> {
    let (length, name) = data.split_first()?;
    let whole = name.len() == usize::from(*length);
    let text = std::str::from_utf8(name).map(str::to_owned);
    whole.then(|| text.map_err(|_| ReturnPathError::BadName))
}

/// The bitmap of a block with so many pages: its length, itself in whole words of 64 bits, and a
/// mark.
fn read_bitmap(
    from: &mut impl Read,
    block: &str,
    pages: Option<u64>,
) -> Result<Vec<u8>, ReturnPathError> {
    let bad = || ReturnPathError::BadBitmap {
        block: block.to_owned(),
    };
    let expected = pages.ok_or_else(bad)?.div_ceil(64).saturating_mul(8);
    if u64::from_be_bytes(bytes(from)?) != expected {
        return Err(bad());
    }
    let mut bits = Vec::new();
    // The length is one that we know; nevertheless, memory is taken only for what comes.
    let read = from.take(expected).read_to_end(&mut bits)?;
    if read as u64 != expected {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match u64::from_be_bytes(bytes(from)?) {
        BITMAP_END => Ok(bits),
        _ => Err(bad()),
    }
}

fn first_byte(from: &mut impl Read) -> Result<Option<u8>, ReturnPathError> {
    let mut byte = [0];
    loop {
        match from.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(byte.first().copied()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn bytes<const N: usize>(from: &mut impl Read) -> Result<[u8; N], ReturnPathError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pages(block: &str) -> Option<u64> {
        (block == "memory").then_some(100)
    }

    fn read(mut bytes: &[u8]) -> Result<Option<Message>, ReturnPathError> {
        read_message(&mut bytes, &pages)
    }

    fn message(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn requests_are_read_with_and_without_a_block() {
        let mut data = 0x20_0000u64.to_be_bytes().to_vec();
        data.extend(4096u32.to_be_bytes());
        let request = |block| Message::Request {
            start: 0x20_0000,
            length: 4096,
            block,
        };
        assert_eq!(read(&message(REQUEST, &data)).unwrap(), Some(request(None)));
        data.extend(b"\x06memory");
        let named = Some(request(Some("memory".into())));
        assert_eq!(read(&message(REQUEST_NAMED, &data)).unwrap(), named);
        assert!(read(&message(REQUEST, &data)).is_err());
        data.push(b'x');
        assert!(read(&message(REQUEST_NAMED, &data)).is_err());
    }

    #[test]
    fn a_bitmap_must_fit_its_block() {
        let with = |block: &[u8], length: u64, end: u64| {
            let mut bytes = message(BITMAP, block);
            bytes.extend(length.to_be_bytes());
            bytes.extend([0xff; 16]);
            bytes.extend(end.to_be_bytes());
            bytes
        };
        let good = read(&with(b"\x06memory", 16, BITMAP_END)).unwrap();
        let received = Message::Received {
            block: "memory".into(),
            bits: vec![0xff; 16],
        };
        assert_eq!(good, Some(received));
        assert!(read(&with(b"\x06memory", 24, BITMAP_END)).is_err());
        assert!(read(&with(b"\x06memory", 16, 1)).is_err());
        assert!(read(&with(b"\x05other", 16, BITMAP_END)).is_err());
        assert!(read(&with(b"\x06memory", u64::MAX, BITMAP_END)).is_err());
    }

    #[test]
    fn the_end_is_only_good_between_messages() {
        assert_eq!(read(b"").unwrap(), None);
        let pong = message(PONG, &3u32.to_be_bytes());
        assert_eq!(read(&pong).unwrap(), Some(Message::Pong(3)));
        for end in 1..pong.len() {
            assert!(read(&pong[..end]).is_err());
        }
        assert!(read(&message(99, b"")).is_err());
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut from = bytes.as_slice();
            while let Ok(Some(_)) = read_message(&mut from, &pages) {}
        }
    }
}
