//! Datetimes: whatever parses prints as 25 characters that mean the same.
#![no_main]

use cim::DateTime;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(value) = text.parse::<DateTime>() else {
        return;
    };
    let printed = value.to_string();
    assert_eq!(printed.len(), 25, "{printed}");
    let again: DateTime = printed.parse().expect("a printed datetime parses");
    // Years before 0 and after 9999, which an offset can lead to, are clamped once.
    assert_eq!(again.to_string(), printed);
});
