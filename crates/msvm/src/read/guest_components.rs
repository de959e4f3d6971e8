//! What a running guest's agent tells, as Hyper-V's integration components show it: the heartbeat and
//! the key-value pairs. It is the guest's claim, looked at from time to time; readers never wait for a
//! guest.

use super::texts;
use crate::host::Host;
use cim::instance::InstanceBuilder;
use cim::{CimError, Value};
use machines::MachineId;
use machines::guest_report::{Contact, GuestFacts, GuestReport};
use std::sync::Arc;

/// `Source` of what the guest's system tells by itself.
const INTRINSIC: u16 = 2;

/// `OperationalStatus`, and `Heartbeat` of a summary: OK only while the agent answers.
fn contact(report: Option<&GuestReport>) -> (u16, &'static str) {
    match report.map_or(Contact::Never, |report| report.contact) {
        Contact::Answering => (2, "OK"),
        Contact::Never => (12, "No Contact"),
        Contact::Lost => (13, "Lost Communication"),
    }
}

/// `Heartbeat` of a summary.
pub(crate) fn heartbeat(report: Option<&GuestReport>) -> u16 {
    contact(report).0
}

/// The pairs by Hyper-V's names; those that the guest does not tell are left out.
fn pairs(facts: &GuestFacts) -> Vec<(&'static str, String)> {
    let os = &facts.os;
    let join = |all: Vec<String>| all.join(";");
    let mut version = os.version_id.split('.');
    let windows = os.id == "mswindows";
    let number = match windows {
        true => &os.kernel_release,
        false => &os.version_id,
    };
    let v4 = facts.addresses.v4.iter().map(ToString::to_string);
    let v6 = facts.addresses.v6.iter().map(ToString::to_string);
    let all = [
        ("FullyQualifiedDomainName", facts.host_name.clone()),
        ("OSName", os.pretty_name.clone()),
        ("OSVersion", number.clone()),
        ("OSMajorVersion", version.next().unwrap_or("").to_owned()),
        ("OSMinorVersion", version.next().unwrap_or("").to_owned()),
        ("OSBuildNumber", os.kernel_release.clone()),
        ("ProcessorArchitecture", os.machine.clone()),
        ("IntegrationServicesVersion", facts.agent_version.clone()),
        ("NetworkAddressIPv4", join(v4.collect())),
        ("NetworkAddressIPv6", join(v6.collect())),
    ];
    all.into_iter()
        .filter(|(_, data)| !data.is_empty())
        .collect()
}

impl Host {
    /// What the agent of a running guest told last.
    pub(crate) fn guest_report(&self, machine: MachineId) -> Option<Arc<GuestReport>> {
        self.machines.guest_report(machine)
    }

    /// The pairs as `Msvm_KvpExchangeDataItem`, each as text.
    pub(super) fn intrinsic_items(&self, machine: MachineId) -> Result<Value, CimError> {
        let Some(report) = self.guest_report(machine) else {
            return Ok(Value::Array(Vec::new()));
        };
        let mut items = Vec::new();
        for (name, data) in pairs(&report.facts) {
            let item = self.embedded("Msvm_KvpExchangeDataItem", |new| {
                new.set("Caption", "Key-Value Pair Exchange Data Item")
                    .set("Description", "Microsoft Key-Value Pair Exchange Data Item")
                    .set("ElementName", "Key-Value Pair Exchange Data Item")
                    .set_if_declared("InstanceID", format!("Microsoft:{machine}\\{name}"))
                    .set("Source", INTRINSIC)
                    .set("Name", name)
                    .set("Data", data)
            })?;
            items.push(Value::String(cim_xml::embedded::write_instance(&item)));
        }
        Ok(Value::Array(items))
    }

    pub(super) fn with_contact<'a>(
        &self,
        machine: MachineId,
        new: InstanceBuilder<'a>,
    ) -> InstanceBuilder<'a> {
        let (status, text) = contact(self.guest_report(machine).as_deref());
        new.set("OperationalStatus", vec![status])
            .set("StatusDescriptions", texts([text]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_hyper_vs_names_and_no_empty_ones() {
        let mut facts = GuestFacts::default();
        assert_eq!(pairs(&facts), []);
        facts.os.pretty_name = "Debian GNU/Linux 12 (bookworm)".into();
        facts.os.version_id = "12.4".into();
        facts.host_name = "web01.example.org".into();
        facts.addresses.v4 = vec![[192, 0, 2, 7].into(), [192, 0, 2, 8].into()];
        let pairs = pairs(&facts);
        let data = |name| pairs.iter().find(|p| p.0 == name).map(|p| p.1.as_str());
        assert_eq!(data("OSName"), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(data("OSVersion"), Some("12.4"));
        assert_eq!(data("OSMajorVersion"), Some("12"));
        assert_eq!(data("OSMinorVersion"), Some("4"));
        assert_eq!(data("FullyQualifiedDomainName"), Some("web01.example.org"));
        assert_eq!(data("NetworkAddressIPv4"), Some("192.0.2.7;192.0.2.8"));
        assert_eq!(data("NetworkAddressIPv6"), None);
    }
}
