//! CIM-XML as text (DMTF DSP0201 2.4): classes, instances, paths, values and whole messages, both
//! ways. Used by the server, by the client and for embedded instances in string parameters.
//!
//! Not here: HTTP (`wire-cimxml`), what a request means (`cim-broker`).
//!
//! Start reading at [`request`] and [`response`] (whole messages) or [`embedded`] (an instance as
//! the text of a string). Below them `reader` turns untrusted bytes into elements, within
//! [`Limits`] and without ever building a tree; the modules named after what they hold (values,
//! paths, instances, classes) have a `read_` and a `write_` function for each element.
//!
//! Two rules run through the readers. A document is *loosely valid*: elements and attributes that
//! the DTD does not know are passed over, known ones in the wrong place are refused. And a `VALUE`
//! whose text is not a literal of its stated type stays a string: whoever knows the declared type
//! (the broker) converts or refuses it, and can say which property or parameter it was.

#![forbid(unsafe_code)]

mod class;
mod element;
pub mod embedded;
mod error;
mod instance;
mod limits;
mod path;
mod reader;
pub mod request;
pub mod response;
mod value;
mod writer;

pub use error::{ErrorKind, XmlError};
pub use limits::Limits;
