//! impacket as a client: activation, calls, references, pings, at the levels it can do.
//!
//! It is found by `ROOTVIRT_TEST_PYTHON` and needs port 135, which it takes for granted; without
//! these the test has nothing to run and says so.

use crate::service::{CLSID, ICOUNTER, INAME, Service};
use std::net::Ipv4Addr;

#[tokio::test]
async fn impacket_activates_calls_and_releases() {
    let Some(python) = std::env::var_os("ROOTVIRT_TEST_PYTHON") else {
        eprintln!("skipped: ROOTVIRT_TEST_PYTHON does not name a Python with impacket");
        return;
    };
    // A loopback address of this process alone, so that tests do not meet at port 135.
    let [.., c, b, a] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, c | 2, b, a.clamp(1, 254));
    let Some(service) = Service::start_at(address, 135).await else {
        eprintln!("skipped: port 135 cannot be had");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/impacket_client.py");
    for (level, seen) in [("default", "Integrity"), ("privacy", "Privacy")] {
        let output = tokio::process::Command::new(&python)
            .arg(script)
            .args([&address.to_string(), level, &CLSID.to_string()])
            .args([ICOUNTER.to_string(), INAME.to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .await
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            printed.trim(),
            format!("5 12 alice/{seen} wrong password: rpc_s_access_denied"),
            "{level}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(*service.alive.borrow(), 0);
    }
}
