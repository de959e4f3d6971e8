//! PDUs out of a stream of bytes: as many bytes as a header says, never more than allowed. A whole PDU
//! is mostly there at once, and then takes one read.

use crate::pdu::{Fragment, HEADER_LENGTH, Header, PacketType, PduError};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::time::Instant;

/// How many bytes are read at once: more than the fragments that clients send.
const AHEAD: usize = 8 << 10;

/// Why no PDU comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The client has closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// These bytes are not a PDU.
    #[error(transparent)]
    Pdu(#[from] PduError),
}

/// Reads PDUs. What was read stays if a read is given up, so it can be given up at any time.
pub(crate) struct Fragments<R> {
    stream: BufReader<R>,
    buffer: Vec<u8>,
    /// For requests; logons may come in any size.
    longest_request: u16,
    started: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Fragments<R> {
    pub(crate) fn new(stream: R, longest_request: u16) -> Self {
        Fragments {
            stream: BufReader::with_capacity(AHEAD, stream),
            buffer: Vec::new(),
            longest_request,
            started: None,
        }
    }

    /// Since when a PDU has been coming in.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Waits until a PDU begins to come in.
    pub(crate) async fn begun(&mut self) -> Result<(), ReadError> {
        match self.buffer.is_empty() {
            true => self.read(HEADER_LENGTH).await,
            false => Ok(()),
        }
    }

    /// The next PDU.
    pub(crate) async fn next(&mut self) -> Result<Fragment, ReadError> {
        loop {
            let missing = match self.buffer.first_chunk::<HEADER_LENGTH>() {
                None => HEADER_LENGTH - self.buffer.len(),
                Some(header) => {
                    let header = Header::decode(header)?;
                    if header.packet_type == PacketType::REQUEST
                        && header.length > self.longest_request
                    {
                        return Err(PduError::Length.into());
                    }
                    usize::from(header.length).saturating_sub(self.buffer.len())
                }
            };
            if missing == 0 {
                self.started = None;
                return Ok(Fragment::decode(std::mem::take(&mut self.buffer))?);
            }
            self.read(missing).await?;
        }
    }

    /// Reads some of the bytes that are missing: not one more than belongs to this PDU.
    async fn read(&mut self, missing: usize) -> Result<(), ReadError> {
        let mut stream = (&mut self.stream).take(u64::try_from(missing).unwrap_or(0));
        self.buffer.reserve_exact(missing);
        if stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(ReadError::Closed);
        }
        self.started.get_or_insert_with(Instant::now);
        Ok(())
    }
}
