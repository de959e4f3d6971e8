//! What the service says of itself: Identify, its settings, its classes.

use super::{Call, Product};
use crate::soap::reply::Reply;
use crate::soap::uri;
use crate::soap::writer::Writer;

/// DSP0226 section 11.
pub(super) fn identify(product: &Product, security_profiles: &[String]) -> Reply {
    let mut w = Writer::default();
    w.open("wsmid:IdentifyResponse");
    w.leaf("wsmid:ProtocolVersion", uri::WSMAN);
    w.leaf("wsmid:ProductVendor", &product.vendor);
    w.leaf("wsmid:ProductVersion", &product.version);
    if !security_profiles.is_empty() {
        w.open("wsmid:SecurityProfiles");
        for profile in security_profiles {
            w.leaf("wsmid:SecurityProfileName", profile);
        }
        w.close();
    }
    Reply::with_body(w.finish())
}

/// The settings that clients read to learn how much they may send and ask for.
pub(super) fn config(call: &Call) -> Reply {
    let mut w = Writer::default();
    w.open_with("cfg:Config", &[("xmlns:cfg", uri::CONFIG)]);
    w.leaf(
        "cfg:MaxEnvelopeSizekb",
        &(super::DEFAULT_ENVELOPE >> 10).to_string(),
    );
    w.leaf("cfg:MaxTimeoutms", "3600000");
    w.leaf("cfg:MaxBatchItems", "32000");
    w.leaf("cfg:MaxProviderRequests", "4294967295");
    w.open("cfg:Service");
    let limits = call.operations.enumerations.limits();
    w.leaf(
        "cfg:EnumerationTimeoutms",
        &limits.lifetime.as_millis().to_string(),
    );
    w.leaf(
        "cfg:MaxConcurrentOperationsPerUser",
        &limits.per_user.to_string(),
    );
    w.leaf("cfg:AllowUnencrypted", "false");
    Reply::with_body(w.finish())
}
