//! QEMU's migration stream, as it comes: a parser that is fed with blocks of bytes.
//!
//! It knows what QEMU sends of a guest that is snapshotted in the background or saved while it
//! stands still: the configuration, one memory section in parts, the devices, the description. What
//! it does not know is an error, because then nobody can say what the rest means. Numbers
//! are big-endian.
//!
//! - Begin: magic `QEVM` (u32), version 3 (u32), 07, length (u32) and name of the machine type.
//! - Section: 01 begin, 02 part, 03 end, 04 whole; number (u32); of 01 and 04 also name (u8 length),
//!   instance and version (u32 each); the body; a footer 7e, number (u32), if footers are on.
//! - Body of 01 `ram`: size of all memory with flag 004 (u64), then name (u8 length) and length
//!   (u64) of each block until that size is reached, then flag 010.
//! - Bodies of 02 and 03 `ram`: records of page address and flags (u64): 008 a page follows, 002 a
//!   byte follows that fills the page; unless flag 020 says that it is as before, the name of the
//!   block (u8 length) comes first. 010 ends the body.
//! - The bodies of the devices do not say how long they are; [`devices`] finds their ends.

pub mod devices;

use crate::PAGE;
use crate::header::RamSection;
use crate::index::{MOST_BLOCKS, MOST_MEMORY, RamBlock, check_blocks};

/// Longest name of a machine type that is accepted.
const LONGEST_CONFIGURATION: usize = 4096;
/// Most bytes of device state that are accepted.
pub const MOST_DEVICE_STATE: usize = 256 << 20;
/// The version of the memory section.
const RAM_VERSION: u32 = 4;

const FLAG_ZERO: u64 = 0x02;
const FLAG_MEM_SIZE: u64 = 0x04;
const FLAG_PAGE: u64 = 0x08;
const FLAG_EOS: u64 = 0x10;
const FLAG_CONTINUE: u64 = 0x20;
const FLAGS: u64 = 0xfff;

/// Why a stream is not one that can be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum StreamError {
    #[error("it does not begin like a migration stream of version 3")]
    Magic,
    #[error("it has no configuration section")]
    NoConfiguration,
    #[error("its configuration section is {length} bytes long")]
    Configuration { length: u32 },
    #[error("its configuration has the part \"{name}\" at byte {offset}, which is not known")]
    Subsection { name: String, offset: u64 },
    #[error("a section of the unknown kind {kind:#04x} begins at byte {offset}")]
    SectionKind { kind: u8, offset: u64 },
    #[error("the section \"{name}\" at byte {offset} is not known (version {version})")]
    Section {
        name: String,
        version: u32,
        offset: u64,
    },
    #[error("section {id} goes on at byte {offset}, and it never began")]
    SectionNumber { id: u32, offset: u64 },
    #[error("a section's footer is wrong or missing at byte {offset}")]
    Footer { offset: u64 },
    #[error("the list of memory blocks at byte {offset} makes no sense: {what}")]
    Blocks { what: String, offset: u64 },
    #[error("a memory record at byte {offset} has the unknown flags {flags:#x}")]
    Flags { flags: u64, offset: u64 },
    #[error("a memory record at byte {offset} names the unknown block \"{name}\"")]
    Block { name: String, offset: u64 },
    #[error("a memory record at byte {offset} is of address {address:#x}, outside its block")]
    Address { address: u64, offset: u64 },
    #[error("it has more than {MOST_DEVICE_STATE} bytes of device state")]
    TooManyDevices,
    #[error("it ends at byte {offset}, in the middle")]
    CutOff { offset: u64 },
    #[error("its device state is not whole: {what}")]
    Devices { what: String },
}

/// What becomes of the memory in a stream.
pub trait Sink {
    /// Why it cannot be taken.
    type Error;
    /// The blocks, before any page.
    fn blocks(&mut self, blocks: &[RamBlock]) -> Result<(), Self::Error>;
    /// A page; `block` is its number in the list.
    fn page(&mut self, block: usize, page: u64, bytes: &[u8; PAGE]) -> Result<(), Self::Error>;
    /// A page of zeros.
    fn zero(&mut self, block: usize, page: u64) -> Result<(), Self::Error>;
}

/// Why feeding the parser failed.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum FeedError<E> {
    Stream(StreamError),
    Sink(E),
}

impl<E> From<StreamError> for FeedError<E> {
    fn from(error: StreamError) -> Self {
        FeedError::Stream(error)
    }
}

/// What a stream holds besides memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes between version and first section.
    pub configuration: Vec<u8>,
    /// The memory section.
    pub ram: RamSection,
    /// Everything behind memory.
    pub devices: Vec<u8>,
}

/// Takes a stream apart.
pub struct Parser {
    state: State,
    /// The beginning of something whose rest has not come.
    carry: Vec<u8>,
    /// Bytes of the stream before `carry`.
    offset: u64,
    configuration: Vec<u8>,
    ram: RamSection,
    /// Whether there are footers, once a section has ended.
    footers: Option<bool>,
    blocks: Vec<RamBlock>,
    /// The block of the last record.
    current: Option<usize>,
    devices: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Configuration,
    /// The configuration's parts, which are none.
    Parts,
    Sections,
    MemorySize,
    /// So many bytes of memory have no block yet.
    BlockList(u64),
    SetupEnd,
    Records,
    Footer,
    Devices,
}

/// What became of the bytes at hand.
enum Step {
    Took(usize),
    /// So many are needed.
    Need(usize),
}

impl Default for Parser {
    fn default() -> Parser {
        Parser {
            state: State::Begin,
            carry: Vec::new(),
            offset: 0,
            configuration: Vec::new(),
            ram: RamSection::default(),
            footers: None,
            blocks: Vec::new(),
            current: None,
            devices: Vec::new(),
        }
    }
}

impl Parser {
    /// Takes the next bytes of the stream. After an error it is of no more use.
    pub fn feed<S: Sink>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut S,
    ) -> Result<(), FeedError<S::Error>> {
        while !self.carry.is_empty() {
            let carry = std::mem::take(&mut self.carry);
            match self.step(&carry, sink)? {
                Step::Took(length) => {
                    // Never more than what one step needs is carried.
                    self.offset += length as u64;
                    self.carry = carry.get(length..).unwrap_or_default().to_vec();
                }
                Step::Need(length) => {
                    let missing = length.saturating_sub(carry.len()).max(1);
                    let (now, later) = bytes.split_at(missing.min(bytes.len()));
                    self.carry = carry;
                    self.carry.extend_from_slice(now);
                    if now.len() < missing {
                        return Ok(());
                    }
                    bytes = later;
                }
            }
        }
        while !bytes.is_empty() {
            match self.step(bytes, sink)? {
                Step::Took(length) => {
                    self.offset += length as u64;
                    bytes = bytes.get(length..).unwrap_or_default();
                }
                Step::Need(_) => {
                    self.carry.extend_from_slice(bytes);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The stream has ended: what it held besides memory, if it is whole.
    pub fn finish(self) -> Result<Frame, StreamError> {
        if self.state != State::Devices || !self.carry.is_empty() {
            let offset = self.offset + self.carry.len() as u64;
            return Err(StreamError::CutOff { offset });
        }
        let ram = RamSection {
            footers: self.footers.unwrap_or(false),
            ..self.ram
        };
        devices::check(&self.devices, ram.footers).map_err(|what| StreamError::Devices { what })?;
        Ok(Frame {
            configuration: self.configuration,
            ram,
            devices: self.devices,
        })
    }

    fn step<S: Sink>(&mut self, bytes: &[u8], sink: &mut S) -> Result<Step, FeedError<S::Error>> {
        match self.state {
            State::Records => self.records(bytes, sink),
            State::Devices => {
                if self.devices.len() + bytes.len() > MOST_DEVICE_STATE {
                    return Err(StreamError::TooManyDevices.into());
                }
                self.devices.extend_from_slice(bytes);
                Ok(Step::Took(bytes.len()))
            }
            State::BlockList(missing) => {
                let step = self.block(bytes, missing)?;
                if matches!(step, Step::Took(_)) && self.state == State::SetupEnd {
                    sink.blocks(&self.blocks).map_err(FeedError::Sink)?;
                }
                Ok(step)
            }
            _ => Ok(self.frame(bytes)?),
        }
    }

    /// Everything that is small and comes rarely.
    fn frame(&mut self, bytes: &[u8]) -> Result<Step, StreamError> {
        let offset = self.offset;
        let mut input = Input::new(bytes);
        let next = match self.state {
            State::Begin => match (input.number32(), input.number32()) {
                (Some(0x5145_564d), Some(3)) => State::Configuration,
                (Some(_), Some(_)) => return Err(StreamError::Magic),
                _ => return Ok(input.need()),
            },
            State::Configuration => return self.configuration(bytes),
            State::Parts => match input.byte() {
                Some(5) => match input.name() {
                    Some(name) => return Err(StreamError::Subsection { name, offset }),
                    None => return Ok(input.need()),
                },
                Some(_) => {
                    self.state = State::Sections;
                    return Ok(Step::Took(0));
                }
                None => return Ok(input.need()),
            },
            State::Sections => match self.section(&mut input)? {
                Some(State::Devices) => {
                    self.state = State::Devices;
                    return Ok(Step::Took(0));
                }
                Some(next) => next,
                None => return Ok(input.need()),
            },
            State::MemorySize => match input.number64() {
                Some(size) if size & FLAGS == FLAG_MEM_SIZE && size - FLAG_MEM_SIZE > 0 => {
                    State::BlockList(size & !FLAGS)
                }
                Some(size) => {
                    let flags = size & FLAGS;
                    return Err(StreamError::Flags { flags, offset });
                }
                None => return Ok(input.need()),
            },
            State::SetupEnd => match input.number64() {
                Some(FLAG_EOS) => State::Footer,
                Some(flags) => return Err(StreamError::Flags { flags, offset }),
                None => return Ok(input.need()),
            },
            State::Footer => return self.footer(input),
            // These have their own functions.
            State::BlockList(_) | State::Records | State::Devices => self.state,
        };
        self.state = next;
        Ok(input.took())
    }

    fn configuration(&mut self, bytes: &[u8]) -> Result<Step, StreamError> {
        let mut input = Input::new(bytes);
        match input.byte() {
            Some(7) => {}
            Some(_) => return Err(StreamError::NoConfiguration),
            None => return Ok(input.need()),
        }
        let Some(length) = input.number32() else {
            return Ok(input.need());
        };
        let fits = usize::try_from(length).ok();
        let fits = fits.filter(|length| *length <= LONGEST_CONFIGURATION);
        let fits = fits.ok_or(StreamError::Configuration { length })?;
        if input.bytes(fits).is_none() {
            return Ok(input.need());
        }
        let step = input.took();
        if let Step::Took(length) = step {
            self.configuration = bytes.get(..length).unwrap_or_default().to_vec();
        }
        self.state = State::Parts;
        Ok(step)
    }

    /// The beginning of a section; the state that reads its body.
    fn section(&mut self, input: &mut Input) -> Result<Option<State>, StreamError> {
        let offset = self.offset;
        let known = !self.blocks.is_empty();
        let Some(kind) = input.byte() else {
            return Ok(None);
        };
        match kind {
            1 => {
                let (Some(id), Some(name)) = (input.number32(), input.name()) else {
                    return Ok(None);
                };
                let (Some(instance), Some(version)) = (input.number32(), input.number32()) else {
                    return Ok(None);
                };
                if name != "ram" || version != RAM_VERSION || known {
                    return Err(StreamError::Section {
                        name,
                        version,
                        offset,
                    });
                }
                self.ram = RamSection {
                    id,
                    instance,
                    version,
                    footers: false,
                };
                Ok(Some(State::MemorySize))
            }
            2 | 3 => match input.number32() {
                Some(id) if id == self.ram.id && known => Ok(Some(State::Records)),
                Some(id) => Err(StreamError::SectionNumber { id, offset }),
                None => Ok(None),
            },
            4 if known => Ok(Some(State::Devices)),
            _ => Err(StreamError::SectionKind { kind, offset }),
        }
    }

    fn footer(&mut self, mut input: Input) -> Result<Step, StreamError> {
        let wrong = StreamError::Footer {
            offset: self.offset,
        };
        let there = match input.byte() {
            Some(byte) => byte == 0x7e,
            None => return Ok(input.need()),
        };
        if self.footers.is_some_and(|before| before != there) {
            return Err(wrong);
        }
        if there {
            match input.number32() {
                Some(id) if id == self.ram.id => {}
                Some(_) => return Err(wrong),
                None => return Ok(input.need()),
            }
        }
        self.footers = Some(there);
        self.state = State::Sections;
        Ok(if there { input.took() } else { Step::Took(0) })
    }

    /// One entry of the list of blocks.
    fn block(&mut self, bytes: &[u8], missing: u64) -> Result<Step, StreamError> {
        let offset = self.offset;
        let refused = |what: String| StreamError::Blocks { what, offset };
        if missing > MOST_MEMORY {
            return Err(refused(format!("{missing} bytes of memory")));
        }
        let mut input = Input::new(bytes);
        let (Some(name), Some(length)) = (input.name(), input.number64()) else {
            return Ok(input.need());
        };
        let left = missing.checked_sub(length);
        let left = left.ok_or_else(|| refused("the blocks are larger than all".into()))?;
        if self.blocks.len() >= MOST_BLOCKS {
            return Err(refused(format!("more than {MOST_BLOCKS} blocks")));
        }
        self.blocks.push(RamBlock { name, length });
        self.state = State::BlockList(left);
        if left == 0 {
            check_blocks(&self.blocks).map_err(refused)?;
            self.state = State::SetupEnd;
        }
        Ok(input.took())
    }

    /// Pages, as many as there are.
    fn records<S: Sink>(
        &mut self,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<Step, FeedError<S::Error>> {
        let mut taken = 0;
        loop {
            let mut input = Input::new(bytes.get(taken..).unwrap_or_default());
            match self.record(&mut input, taken, sink)? {
                true => taken += input.at,
                // What was taken counts first.
                false if taken > 0 => return Ok(Step::Took(taken)),
                false => return Ok(input.need()),
            }
            if self.state != State::Records {
                return Ok(Step::Took(taken));
            }
        }
    }

    /// One record; false if it is not whole.
    fn record<S: Sink>(
        &mut self,
        input: &mut Input,
        taken: usize,
        sink: &mut S,
    ) -> Result<bool, FeedError<S::Error>> {
        let Some(word) = input.number64() else {
            return Ok(false);
        };
        let offset = self.offset + taken as u64;
        let (address, flags) = (word & !FLAGS, word & FLAGS);
        let kind = flags & !FLAG_CONTINUE;
        if word == FLAG_EOS {
            self.state = State::Footer;
            return Ok(true);
        }
        if kind != FLAG_PAGE && kind != FLAG_ZERO {
            return Err(StreamError::Flags { flags, offset }.into());
        }
        let block = match (flags & FLAG_CONTINUE != 0, self.current) {
            (true, Some(block)) => block,
            (true, None) => return Err(StreamError::Flags { flags, offset }.into()),
            (false, _) => {
                let Some(name) = input.name() else {
                    return Ok(false);
                };
                let known = self.blocks.iter().position(|b| b.name == name);
                known.ok_or(StreamError::Block { name, offset })?
            }
        };
        let length = self.blocks.get(block).map_or(0, |b| b.length);
        if address >= length {
            return Err(StreamError::Address { address, offset }.into());
        }
        let page = address / RamBlock::PAGE_SIZE;
        if kind == FLAG_PAGE {
            let Some(bytes) = input.array::<PAGE>() else {
                return Ok(false);
            };
            sink.page(block, page, bytes)
        } else {
            match input.byte() {
                Some(0) => sink.zero(block, page),
                Some(byte) => sink.page(block, page, &[byte; PAGE]),
                None => return Ok(false),
            }
        }
        .map_err(FeedError::Sink)?;
        self.current = Some(block);
        Ok(true)
    }
}

/// Bytes that are being read.
pub(crate) struct Input<'a> {
    all: &'a [u8],
    at: usize,
    /// How far something reached that was not whole.
    wanted: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn new(all: &'a [u8]) -> Input<'a> {
        Input {
            all,
            at: 0,
            wanted: 0,
        }
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.saturating_add(length);
        let found = self.all.get(self.at..end);
        match found {
            Some(_) => self.at = end,
            None => self.wanted = self.wanted.max(end),
        }
        found
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.bytes(N).and_then(|bytes| bytes.first_chunk())
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    pub(crate) fn number32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn number64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// A name; bytes that are no text are replaced, so that it matches nothing.
    pub(crate) fn name(&mut self) -> Option<String> {
        let before = self.at;
        let length = self.byte()?;
        let Some(bytes) = self.bytes(usize::from(length)) else {
            self.at = before;
            return None;
        };
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn took(&self) -> Step {
        Step::Took(self.at)
    }

    fn need(&self) -> Step {
        Step::Need(self.wanted.max(self.at + 1))
    }
}
