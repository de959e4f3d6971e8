//! wire-cimxml
