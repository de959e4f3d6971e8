//! The CIM object model: values, classes, instances, object paths, MOF and WQL (DMTF DSP0004,
//! DSP0221, and WMI's dialect of both). Pure data and text: no I/O, no network, no knowledge of
//! any particular class.
//!
//! Not here: XML (`cim-xml`), who answers a request (`cim-broker`), what a virtual machine is.
//!
//! Start reading at [`value`], then [`class`] and [`instance`]; [`path`] is the name of an
//! instance in all the spellings that clients use.

#![forbid(unsafe_code)]

pub mod class;
pub mod convert;
pub mod datetime;
pub mod instance;
pub mod mof;
pub mod name;
pub mod path;
mod path_text;
pub mod status;
pub mod value;
pub mod wql;

pub use class::{
    Class, Embedded, MethodDecl, ParameterDecl, PropertyDecl, Qualifier, QualifierDecl,
};
pub use convert::{CoercionError, ConversionError};
pub use datetime::{DateTime, DateTimeError};
pub use instance::{Instance, InstanceBuilder, InstanceError, Property};
pub use name::{Name, Namespace};
pub use path::{KeyValue, Keys, ObjectPath, PathError};
pub use status::{CimError, CimStatus};
pub use value::{CimType, Type, Value};
