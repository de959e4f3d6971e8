//! msvm
