//! V2's connections of network ports: resources of their own, which the model has at the port.

use super::Refusal;
use super::arguments::Given;
use super::resources::{connect, device_at, parent, resource_type};
use crate::host::Host;
use crate::resource_types::Resource;
use crate::subject::{Configuration, Part, Subject};
use cim::{Instance, ObjectPath, Value};
use machines::model::{DeviceKind, Machine};
use machines::request::{Actor, ResourceChange};
use std::sync::Arc;

impl Host {
    pub(super) fn is_connection(&self, given: &Instance) -> bool {
        resource_type(self.version, given)
            .is_ok_and(|row| row.resource == Resource::EthernetConnection)
    }

    /// Lets ports lead somewhere, all or none; answers the paths of the connections.
    pub(super) async fn connect_ports(
        &self,
        actor: &Actor,
        machine: &Arc<Machine>,
        settings: Vec<&Instance>,
    ) -> Result<Vec<Value>, Refusal> {
        let of = Configuration::Active(machine.clone());
        let mut changes = Vec::new();
        let mut connections = Vec::new();
        for given in settings {
            let given = Given(given);
            let port = parent(self.version, &given, Some(machine.id))?
                .and_then(|id| of.find_device(&id))
                .and_then(|part| match part {
                    Part::Device(index) => Some(index),
                    _ => None,
                });
            let port = port.ok_or_else(|| {
                Refusal::invalid("Parent: a connection is made at an Ethernet port.")
            })?;
            let device = device_at(&of, port)?;
            if device.kind != DeviceKind::EthernetPort || !device.connection.is_empty() {
                return Err(Refusal::invalid(
                    "Parent: it is no Ethernet port, or it has a connection already.",
                ));
            }
            let leads = given.texts("HostResource")?.unwrap_or_default();
            if leads.is_empty() {
                return Err(Refusal::invalid(
                    "HostResource says where the port leads; it is missing.",
                ));
            }
            changes.push(connect(device, Some(leads)));
            connections.push(Part::Connection(port));
        }
        self.machines
            .modify_resources(actor, machine.id, changes)
            .await?;
        let path = |part| self.path(&Subject::Resource(of.clone(), part)).into();
        Ok(connections.into_iter().map(path).collect())
    }

    /// If the path names a connection: the change that cuts it.
    pub(super) fn connection_to_remove(
        &self,
        path: &ObjectPath,
    ) -> Result<Option<(Configuration, ResourceChange)>, Refusal> {
        match self.resolve(path) {
            Some(Subject::Resource(of @ Configuration::Active(_), Part::Connection(index))) => {
                let change = connect(device_at(&of, index)?, Some(Vec::new()));
                Ok(Some((of, change)))
            }
            _ => Ok(None),
        }
    }
}
