//! cim-broker
