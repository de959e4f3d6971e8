//! cim-xml
