//! What clients send: the in-parameters of a method call and the objects inside them.
//!
//! Nothing is trusted. Every length is checked against what is there, every reference against its
//! heap; objects stand in each other to a fixed depth; and since many references may point at one
//! place, everything that is read counts against a budget, so that a small message cannot become a
//! large object.

mod class;
mod cursor;
mod instance;
mod value;

use crate::block::{CLASS, DECORATED, Decoration, INSTANCE, SIGNATURE};
use cim::{Class, Instance, Name};
use cursor::Cursor;
pub use instance::DecodedInstance;

/// How much one object may ask of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole object.
    pub bytes: usize,
    /// Bytes of all values and tables together, each counted as often as it is referred to.
    pub budget: usize,
    /// Objects inside objects.
    pub depth: usize,
    /// Properties of one class.
    pub properties: usize,
    /// Methods of one class.
    pub methods: usize,
}

impl Limits {
    /// For what clients send.
    pub const REQUEST: Limits = Limits {
        bytes: 4 << 20,
        budget: 16 << 20,
        depth: 8,
        properties: 1024,
        methods: 512,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::REQUEST
    }
}

/// Why bytes are not an object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the WMI object cannot be read: {kind} (in {place})")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where: the part of the encoding, or the property.
    pub place: String,
}

/// What is wrong with an object's bytes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// A length or reference points outside, or the bytes end too early.
    #[error("it ends too early, or refers to something outside itself")]
    Truncated,
    /// The unit does not start with its signature.
    #[error("it does not start with the signature 0x12345678")]
    Signature,
    /// Neither a class nor an instance, or both.
    #[error("its flags {0:#04x} say neither class nor instance")]
    Flags(u8),
    /// More than a limit allows.
    #[error("it exceeds the limit for {0}")]
    Limit(&'static str),
    /// Text that does not end or is not UTF-16.
    #[error("a string in it is not valid")]
    Text,
    /// A type number that does not exist.
    #[error("the type number {0} does not exist")]
    Type(u32),
    /// Property numbers that are not 0, 1, 2, ...
    #[error("its properties are not numbered from 0 without gaps")]
    Order,
    /// A name that occurs twice, or an empty one.
    #[error("the name {0:?} is empty or occurs twice")]
    Name(String),
    /// Text that is not a datetime.
    #[error("{0:?} is not a datetime")]
    DateTime(String),
    /// A method whose input and output do not go together.
    #[error("the parameters of method {0} contradict each other")]
    Parameters(String),
}

impl DecodeErrorKind {
    fn at(self, place: impl Into<String>) -> DecodeError {
        DecodeError {
            kind: self,
            place: place.into(),
        }
    }
}

/// A class or an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A class with its inherited members, and its ancestors, nearest first.
    Class {
        /// The class.
        class: Class,
        /// Its ancestors, nearest first.
        ancestors: Vec<Name>,
    },
    /// An instance.
    Instance(DecodedInstance),
}

/// An object that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Server and namespace, when given.
    pub decoration: Option<Decoration>,
    /// The object.
    pub object: Object,
}

impl Decoded {
    /// The instance, if it is one: with the properties that the sender set.
    pub fn into_instance(self) -> Option<Instance> {
        match self.object {
            Object::Instance(decoded) => Some(decoded.into_given()),
            Object::Class { .. } => None,
        }
    }
}

/// Reads an encoding unit (MS-WMIO 2.2.1). What follows it does not matter.
pub fn decode(unit: &[u8], limits: Limits) -> Result<Decoded, DecodeError> {
    let mut cursor = Cursor::new(unit, "encoding unit");
    if cursor.u32()? != SIGNATURE {
        return Err(DecodeErrorKind::Signature.at("encoding unit"));
    }
    let length = cursor.length()?;
    decode_block(cursor.take(length)?, limits)
}

/// Reads an object block (MS-WMIO 2.2.5).
pub fn decode_block(block: &[u8], limits: Limits) -> Result<Decoded, DecodeError> {
    if block.len() > limits.bytes {
        return Err(DecodeErrorKind::Limit("the size of an object").at("object block"));
    }
    let mut reading = Reading {
        budget: limits.budget,
        depth: 0,
        limits,
    };
    reading.block(block)
}

/// The state of reading one object with all that is inside it.
struct Reading {
    budget: usize,
    depth: usize,
    limits: Limits,
}

impl Reading {
    /// Counts what is read against the budget.
    fn spend(&mut self, bytes: usize, place: &str) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(DecodeErrorKind::Limit("the size of all values together").at(place)),
        }
    }

    fn block(&mut self, block: &[u8]) -> Result<Decoded, DecodeError> {
        self.spend(block.len(), "object block")?;
        let mut cursor = Cursor::new(block, "object block");
        let flags = cursor.u8()?;
        let decoration = if flags & DECORATED != 0 {
            Some(Decoration {
                server: cursor.text()?,
                namespace: cursor.text()?,
            })
        } else {
            None
        };
        let object = match flags & (CLASS | INSTANCE) {
            CLASS => self.class(&mut cursor)?,
            INSTANCE => Object::Instance(self.instance(&mut cursor)?),
            _ => return Err(DecodeErrorKind::Flags(flags).at("object block")),
        };
        Ok(Decoded { decoration, object })
    }
}
