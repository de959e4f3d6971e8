//! X.509 certificates: whatever the bytes, what is shown of them is short and harmless.
#![no_main]

use http_server::x509;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(summary) = x509::read(data)
        && let Some(name) = summary.common_name
    {
        assert!(!name.is_empty() && name.chars().count() <= x509::LONGEST_NAME);
        assert!(!name.chars().any(char::is_control));
    }
    let _ = x509::signature_algorithm(data);
});
