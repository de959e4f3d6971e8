//! CIM-XML as text (DMTF DSP0201 2.4): classes, instances, paths, values and whole messages, both
//! ways. Used by the server, by the client and for embedded instances in string parameters.
//!
//! Not here: HTTP (`wire-cimxml` and the client), what a request means (`cim-broker`).
