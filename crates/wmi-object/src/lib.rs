//! The binary encoding of WMI's classes and instances, as DCOM clients send and expect it (MS-WMIO),
//! and the packets in which enumerators hand out many of them (MS-WMI 2.2.14).
//!
//! Not here: the remote procedure calls that carry these bytes, who answers them, what a virtual
//! machine is. The data model is `cim`'s; this crate turns it into bytes and back.
//!
//! Start reading at [`block`]: an *object block* is one class or instance. [`ClassLayout`] is what
//! all instances of a class have in common, made once and used for each of them. What a method's
//! parameters look like as a class is in [`parameters`]. [`decode()`] reads what clients send, and
//! trusts none of it.
//!
//! ```text
//! OBJREF_CUSTOM > encoding unit > object block: class    = parent's parts + own parts
//!                                               instance = class part + instance part
//! ```
//!
//! System properties (`__PATH`, `__CLASS`, `__DERIVATION`, ...) are never on the wire: clients make
//! them from the class's name, its list of ancestors, the key qualifiers and the [`Decoration`].

#![forbid(unsafe_code)]

pub mod block;
mod decode;
mod encode;
mod heap;
pub mod packet;
pub mod parameters;
mod qualifiers;
mod text;
mod types;
mod value;

pub use block::{
    Decoration, encode_class, encode_instance, encode_prototype, encoding_unit, objref,
};
pub use decode::{
    DecodeError, DecodeErrorKind, Decoded, DecodedInstance, Limits, Object, decode, decode_block,
};
pub use encode::{ClassLayout, ClassSource, EncodeError, Lineage, NoClasses};
