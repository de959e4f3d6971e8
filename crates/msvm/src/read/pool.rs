//! Resource pools and what can be allocated from them.

use super::resource::host_memory_mib;
use super::texts;
use crate::host::Host;
use crate::resource_types::{Pool, Resource, ResourceType};
use crate::subject::{CAPABILITIES, capabilities_id, pool_class};
use cim::{CimError, Instance};

impl Host {
    pub(super) fn pool_instance(
        &self,
        row: &ResourceType,
        pool: &Pool,
    ) -> Result<Instance, CimError> {
        let (capacity, reserved) = match row.resource {
            Resource::Memory => (Some(host_memory_mib()), Some(self.memory_in_use())),
            // In thousandths of a percent of every processor.
            Resource::Processor => (Some(100_000), Some(0)),
            _ => (None, None),
        };
        let naming = row.naming(self.version);
        let sub_type = naming.sub_type.unwrap_or(row.caption);
        self.named(pool_class(row), |new| {
            new.set("Caption", pool.name)
                .set(
                    "Description",
                    format!("Pool from which {sub_type} resources are allocated"),
                )
                .set("Name", pool.name)
                .set("OperationalStatus", vec![2u16])
                .set("HealthState", 5u16)
                .set("InstanceID", pool.id)
                .set("PoolID", pool.id)
                .set("Primordial", true)
                .set("Capacity", capacity)
                .set("Reserved", reserved)
                .set("ResourceType", naming.number)
                .set("OtherResourceType", naming.other_type)
                .set("ResourceSubType", naming.sub_type)
                .set("AllocationUnits", row.units)
                .set("ElementName", pool.name)
                .set("StatusDescriptions", texts(["OK"]))
        })
    }

    /// Memory of the machines that have a process, in MiB.
    fn memory_in_use(&self) -> u64 {
        self.machines
            .all()
            .iter()
            .filter(|machine| machine.process.is_some())
            .map(|machine| machine.settings.memory.quantity_mib)
            .sum()
    }

    pub(super) fn capabilities_instance(
        &self,
        row: &ResourceType,
        pool: &Pool,
    ) -> Result<Instance, CimError> {
        let naming = row.naming(self.version);
        let caption = format!("{} Allocation Capabilities", row.caption);
        self.named(CAPABILITIES, |new| {
            new.set("Caption", caption.as_str())
                .set(
                    "Description",
                    format!("What can be allocated from {}", pool.name),
                )
                .set("InstanceID", capabilities_id(pool))
                .set("ElementName", caption.as_str())
                .set("ResourceType", naming.number)
                .set("OtherResourceType", naming.other_type)
                .set("ResourceSubType", naming.sub_type)
                // Both specific and general requests.
                .set("RequestTypesSupported", 3u16)
        })
    }
}
