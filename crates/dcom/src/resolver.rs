//! `IObjectExporter` (MS-DCOM 3.1.2.5.1): where an exporter's objects are, which of them are still
//! held, and whether anybody is there. Clients may ask without having logged on.

use crate::exporter::Exporter;
use crate::orpc;
use crate::properties::LEVEL_HINT;
use crate::table::{SetChange, SetError};
use async_trait::async_trait;
use dce_rpc::ndr::{Reader, Writer};
use dce_rpc::{Call, Fault, Interface, Level, SyntaxId};
use std::sync::Arc;
use std::time::Instant;
use uuid::{Uuid, uuid};

const IOBJECTEXPORTER: Uuid = uuid!("99fcfec4-5260-101b-bbcb-00aa0021347a");

const SUCCESS: u32 = 0;
const INVALID_OXID: u32 = 1910;
const INVALID_SET: u32 = 1912;
const NO_RESOURCES: u32 = 0x0000_000e;
/// More objects than fit into one ping.
const MOST_OIDS: usize = 8192;
const MOST_PROTOCOLS: usize = 64;

/// The resolver.
pub(crate) struct Resolver(Arc<Exporter>);

impl Resolver {
    pub(crate) fn new(exporter: Arc<Exporter>) -> Self {
        Resolver(exporter)
    }

    fn resolve(&self, call: &Call<'_>, with_version: bool) -> Result<Vec<u8>, Fault> {
        let mut arguments = call.arguments();
        let oxid = arguments.u64()?;
        let _protocols = arguments.u16()?;
        let count = arguments.count(MOST_PROTOCOLS, 2)?;
        arguments.bytes(count * 2)?;
        let mut results = Writer::new();
        let status = match oxid == self.0.oxid {
            true => {
                let bindings = self.0.object_bindings(&call.caller.connection);
                bindings.write(results.pointer());
                results.uuid(self.0.unknown);
                SUCCESS
            }
            false => {
                results.null().uuid(Uuid::nil());
                INVALID_OXID
            }
        };
        results.u32(LEVEL_HINT);
        if with_version {
            results.u16(orpc::MAJOR).u16(orpc::MINOR);
        }
        results.u32(status);
        Ok(results.into_bytes())
    }

    fn simple_ping(&self, call: &Call<'_>) -> Result<Vec<u8>, Fault> {
        let set = call.arguments().u64()?;
        let peer = call.caller.connection.peer.ip();
        let pinged = self.0.table().ping(set, peer, Instant::now());
        let mut results = Writer::new();
        results.u32(pinged.map_or(INVALID_SET, |()| SUCCESS));
        Ok(results.into_bytes())
    }

    fn complex_ping(&self, call: &Call<'_>) -> Result<Vec<u8>, Fault> {
        let mut arguments = call.arguments();
        let set = arguments.u64()?;
        let _sequence = arguments.u16()?;
        let (_adds, _removes) = (arguments.u16()?, arguments.u16()?);
        let add = oids(&mut arguments)?;
        let remove = oids(&mut arguments)?;
        let change = SetChange {
            set,
            add: &add,
            remove: &remove,
        };
        let peer = call.caller.connection.peer.ip();
        let changed = self.0.table().change_set(&change, peer, Instant::now());
        let (set, status) = match changed {
            Ok(set) => (set, SUCCESS),
            Err(SetError::Unknown) => (set, INVALID_SET),
            Err(SetError::Limit) => (set, NO_RESOURCES),
        };
        let mut results = Writer::new();
        results.u64(set).u16(0).u32(status);
        Ok(results.into_bytes())
    }

    fn server_alive_2(&self, call: &Call<'_>) -> Vec<u8> {
        let mut results = Writer::new();
        results.u16(orpc::MAJOR).u16(orpc::MINOR);
        let bindings = self.0.resolver_bindings(&call.caller.connection);
        bindings.write(results.pointer());
        results.u32(0).u32(SUCCESS);
        results.into_bytes()
    }
}

/// A pointer to an array of OIDs, and the array.
fn oids(arguments: &mut Reader<'_>) -> Result<Vec<u64>, Fault> {
    if !arguments.pointer()? {
        return Ok(Vec::new());
    }
    let count = arguments.count(MOST_OIDS, 8)?;
    (0..count).map(|_| Ok(arguments.u64()?)).collect()
}

#[async_trait]
impl Interface for Resolver {
    fn syntax(&self) -> SyntaxId {
        SyntaxId::new(IOBJECTEXPORTER, 0)
    }

    fn required_level(&self) -> Level {
        Level::None
    }

    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        match call.opnum {
            0 => self.resolve(&call, false),
            1 => self.simple_ping(&call),
            2 => self.complex_ping(&call),
            3 => Ok(SUCCESS.to_le_bytes().to_vec()),
            4 => self.resolve(&call, true),
            5 => Ok(self.server_alive_2(&call)),
            _ => Err(Fault::OPERATION_RANGE),
        }
    }
}
