//! SOAP 1.2 with WS-Addressing and WS-Management's headers: text to requests, answers to text.
//!
//! ```text
//! xml         a document as a tree of elements with resolved namespaces, within limits
//! request     the headers that a request may have, and its body
//! writer      elements to text, under the prefixes of [`uri`]
//! reply       an answer's envelope
//! fault       what is wrong, with code, subcode and details
//! duration    xs:duration and xs:dateTime
//! ```

pub mod duration;
pub mod fault;
pub mod reply;
pub mod request;
pub mod uri;
pub mod writer;
pub mod xml;
