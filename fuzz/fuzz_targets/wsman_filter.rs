//! Filters of enumerations and subscriptions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire_wsman::{filter, soap::xml};

fuzz_target!(|data: &[u8]| {
    if let Ok(document) = xml::parse(data, xml::Limits::REQUEST) {
        let _ = filter::read_filter(&document.root);
    }
});
