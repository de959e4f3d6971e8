//! What an agent says about its guest, read with limits. All of it is the guest's claim.

use super::wire::printable;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most addresses that are taken over of one guest.
const MAX_ADDRESSES: usize = 64;
/// The most network cards of a guest that are looked at.
const MAX_INTERFACES: usize = 64;

/// What `guest-get-osinfo` tells; what the guest leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsInfo {
    /// For example `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: String,
    /// For example `Debian GNU/Linux`.
    pub name: String,
    /// For example `12`.
    pub version_id: String,
    /// For example `debian`; `mswindows` on Windows.
    pub id: String,
    /// For example `6.1.0-56-amd64`.
    pub kernel_release: String,
    /// For example `#1 SMP ...`.
    pub kernel_version: String,
    /// For example `x86_64`.
    pub machine: String,
}

/// The addresses of a guest's network cards, loopback left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Addresses {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
}

/// What an answer to `guest-get-osinfo` says.
pub fn os_info(reply: &Value) -> OsInfo {
    let text = |key| printable(reply.get(key).and_then(Value::as_str).unwrap_or_default());
    OsInfo {
        pretty_name: text("pretty-name"),
        name: text("name"),
        version_id: text("version-id"),
        id: text("id"),
        kernel_release: text("kernel-release"),
        kernel_version: text("kernel-version"),
        machine: text("machine"),
    }
}

/// What an answer to `guest-network-get-interfaces` says.
pub fn addresses(reply: &Value) -> Addresses {
    let mut found = Addresses::default();
    let cards = reply.as_array().map(Vec::as_slice).unwrap_or_default();
    for card in cards.iter().take(MAX_INTERFACES) {
        let listed = card.get("ip-addresses").and_then(Value::as_array);
        let listed = listed.map(Vec::as_slice).unwrap_or_default();
        for entry in listed.iter().take(MAX_ADDRESSES) {
            let text = entry.get("ip-address").and_then(Value::as_str);
            match text.and_then(|text| text.parse().ok()) {
                Some(IpAddr::V4(a)) if !a.is_loopback() && found.v4.len() < MAX_ADDRESSES => {
                    found.v4.push(a);
                }
                Some(IpAddr::V6(a)) if !a.is_loopback() && found.v6.len() < MAX_ADDRESSES => {
                    found.v6.push(a);
                }
                _ => {}
            }
        }
    }
    found
}

/// How many file systems an answer speaks of; nothing if it is no such number.
pub fn count(reply: &Value) -> Option<u32> {
    reply.as_u64().and_then(|n| u32::try_from(n).ok())
}

/// Whether an answer to `guest-fsfreeze-status` says that file systems are frozen; nothing if it
/// says something else.
pub fn is_frozen(reply: &Value) -> Option<bool> {
    match reply.as_str()? {
        "frozen" => Some(true),
        "thawed" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_those_of_real_cards() {
        let reply = json!([
            {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}, {"ip-address": "::1"}]},
            {"name": "eth0", "hardware-address": "52:54:00:00:00:01", "ip-addresses": [
                {"ip-address-type": "ipv4", "ip-address": "192.0.2.7", "prefix": 24},
                {"ip-address-type": "ipv6", "ip-address": "2001:db8::7", "prefix": 64},
                {"ip-address": "not one"}, {"ip-address": 4}, 5]},
            {"name": "eth1"}, 7,
        ]);
        let found = addresses(&reply);
        assert_eq!(found.v4, [Ipv4Addr::new(192, 0, 2, 7)]);
        assert_eq!(found.v6.len(), 1);
        assert_eq!(addresses(&json!({"a": 1})), Addresses::default());
        let many: Vec<_> = (0..5000)
            .map(|_| json!({"ip-address": "192.0.2.1"}))
            .collect();
        let cards = vec![json!({"ip-addresses": many}); 100];
        assert_eq!(addresses(&json!(cards)).v4.len(), MAX_ADDRESSES);
    }

    #[test]
    fn what_is_left_out_is_empty() {
        let info = os_info(&json!({"pretty-name": "Debian", "id": 7}));
        assert_eq!(
            (info.pretty_name.as_str(), info.id.as_str()),
            ("Debian", "")
        );
        assert_eq!(count(&json!(2)), Some(2));
        for not in [json!(-1), json!(1.5), json!(u64::MAX), json!("2")] {
            assert_eq!(count(&not), None, "{not}");
        }
        assert_eq!(is_frozen(&json!("frozen")), Some(true));
        assert_eq!(is_frozen(&json!("thawed")), Some(false));
        assert_eq!(is_frozen(&json!(true)), None);
    }
}
