//! Counters of virtual processors, as Windows' performance counters show them: the times that a
//! processor of a machine has run. Everything else that Windows counts is not known here and NULL.

use cim::DateTime;
use cim::instance::InstanceBuilder;
use cim_broker::Equality;
use std::sync::Arc;

pub(crate) const CLASS: &str = "Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor";

/// Between the machine's name and the number of its processor.
const SEPARATOR: &str = ":Hv VP ";

/// Ticks of 100 nanoseconds in a second, the unit of all times here.
const FREQUENCY: u64 = 10_000_000;

/// What a processor of a machine that runs has done since the machine was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualProcessor {
    /// The machine's `ElementName`.
    pub machine: String,
    /// The processor's number, from 0.
    pub number: u32,
    /// Time that it has run, in units of 100 ns.
    pub total: u64,
    /// The part of it in which the guest itself ran, where the processor runs guests itself.
    pub guest: Option<u64>,
}

/// The processors of the machines of a name, or of all machines.
pub type VirtualProcessors = Arc<dyn Fn(Option<&str>) -> Vec<VirtualProcessor> + Send + Sync>;

/// The machine whose counters a query asks for.
pub(crate) fn machine_asked_for(filter: &[Equality]) -> Option<&str> {
    let name = filter
        .iter()
        .find(|equality| equality.property.is("Name"))?;
    let (machine, _) = name.value.as_str()?.rsplit_once(SEPARATOR)?;
    Some(machine)
}

pub(crate) fn fill<'a>(
    counted: &VirtualProcessor,
    new: InstanceBuilder<'a>,
) -> InstanceBuilder<'a> {
    let name = format!("{}{SEPARATOR}{}", counted.machine, counted.number);
    let now = DateTime::now().unix_micros();
    let now = now.and_then(|micros| u64::try_from(micros).ok()?.checked_mul(10));
    let own = counted
        .guest
        .map(|guest| counted.total.saturating_sub(guest));
    new.set("Name", name)
        .set("PercentTotalRunTime", counted.total)
        .set("PercentGuestRunTime", counted.guest)
        .set("PercentHypervisorRunTime", own)
        .set("Timestamp_Sys100NS", now)
        .set("Frequency_Sys100NS", FREQUENCY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim::Name;

    #[test]
    fn names_of_machines_may_hold_anything() {
        let asked = |text: &str| {
            let filter = [Equality {
                property: Name::new("name"),
                value: text.into(),
            }];
            machine_asked_for(&filter).map(str::to_owned)
        };
        assert_eq!(asked("web:Hv VP 1:Hv VP 0").as_deref(), Some("web:Hv VP 1"));
        assert_eq!(asked("web"), None);
        assert_eq!(machine_asked_for(&[]), None);
    }
}
