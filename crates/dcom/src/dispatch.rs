//! Calls on the objects' port: which object an IPID means, and `IRemUnknown` for all of them
//! (MS-DCOM 3.1.1.5.6).

use crate::exporter::Exporter;
use crate::hresult::HResult;
use crate::object::ObjectCall;
use crate::objref::{self, StandardReference};
use crate::orpc::{self, OrpcThis};
use crate::table::{NotFound, REFERENCES};
use async_trait::async_trait;
use dce_rpc::ndr::{Reader, Writer};
use dce_rpc::{Call, Caller, Connection, Fault, Level, Objects, SyntaxId};
use std::sync::Arc;
use std::time::Instant;
use uuid::{Uuid, uuid};

pub(crate) const IREMUNKNOWN: Uuid = uuid!("00000131-0000-0000-c000-000000000046");
pub(crate) const IREMUNKNOWN2: Uuid = uuid!("00000143-0000-0000-c000-000000000046");

/// Operations below this one are `IUnknown`'s, which do not travel.
const FIRST_OPERATION: u16 = 3;
/// More interfaces or references than any client handles in one call.
const MOST: usize = 4096;

pub(crate) struct Dispatch {
    exporter: Arc<Exporter>,
}

impl Dispatch {
    pub(crate) fn new(exporter: Arc<Exporter>) -> Self {
        Dispatch { exporter }
    }
}

#[async_trait]
impl Objects for Dispatch {
    fn offers(&self, interface: &SyntaxId) -> bool {
        let known = &self.exporter.configuration.interfaces;
        (interface.major, interface.minor) == (0, 0)
            && ([IREMUNKNOWN, IREMUNKNOWN2].contains(&interface.uuid)
                || known.contains(&interface.uuid))
    }

    fn required_level(&self) -> Level {
        self.exporter.configuration.level
    }

    async fn call(&self, ipid: Uuid, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        let mut arguments = call.arguments();
        if !OrpcThis::read(&mut arguments)?.is_served() {
            return Err(Fault(HResult::VERSION_MISMATCH.0));
        }
        if call.opnum < FIRST_OPERATION {
            return Err(Fault::OPERATION_RANGE);
        }
        let unknown = Unknown {
            exporter: &self.exporter,
            caller: call.caller,
        };
        if ipid == self.exporter.unknown {
            return unknown.call(call.opnum, arguments);
        }
        let found = match self.exporter.find(&ipid, call.caller) {
            Ok(found) => found,
            Err(NotFound::Gone) => return Err(Fault(HResult::DISCONNECTED.0)),
            Err(NotFound::Denied) => return Err(Fault::ACCESS_DENIED),
        };
        let mut object_call = ObjectCall {
            interface: found.interface,
            opnum: call.opnum,
            arguments,
            results: orpc::results(),
            caller: call.caller,
            this: found.object.clone(),
            exporter: &self.exporter,
            oid: found.oid,
        };
        let result = found.object.call(&mut object_call).await?;
        object_call.results.u32(result.0);
        Ok(object_call.results.into_bytes())
    }

    fn disconnected(&self, connection: &Connection) {
        let mut table = self.exporter.table();
        table.disconnected(connection.id, Instant::now());
    }
}

/// `IRemUnknown` and `IRemUnknown2`.
struct Unknown<'a> {
    exporter: &'a Arc<Exporter>,
    caller: &'a Caller,
}

impl Unknown<'_> {
    fn call(&self, opnum: u16, arguments: Reader<'_>) -> Result<Vec<u8>, Fault> {
        let mut results = orpc::results();
        let result = match opnum {
            3 => self.query_interface(arguments, &mut results)?,
            4 => self.add_references(arguments, &mut results)?,
            5 => self.release(arguments)?,
            6 => self.query_interface_2(arguments, &mut results)?,
            _ => return Err(Fault::OPERATION_RANGE),
        };
        results.u32(result.0);
        Ok(results.into_bytes())
    }

    /// One interface after another. Interfaces that the object does not have are told one by one; the
    /// call itself succeeds, because a client (aiowmi) takes a call that does not for the end.
    fn query_interface(
        &self,
        mut arguments: Reader<'_>,
        results: &mut Writer,
    ) -> Result<HResult, Fault> {
        let ipid = arguments.uuid()?;
        let references = arguments.u32()?;
        let count = usize::from(arguments.u16()?);
        let wanted = interfaces(&mut arguments, count)?;
        results.pointer().count(wanted.len());
        for interface in wanted {
            let given = self.give(&ipid, interface, references);
            let (result, reference) = match given {
                Ok(reference) => (HResult::OK, reference),
                Err(error) => (error, StandardReference::NONE),
            };
            results.align(8).u32(result.0);
            reference.write(results);
        }
        Ok(HResult::OK)
    }

    /// As above, with whole references.
    fn query_interface_2(
        &self,
        mut arguments: Reader<'_>,
        results: &mut Writer,
    ) -> Result<HResult, Fault> {
        let ipid = arguments.uuid()?;
        let count = usize::from(arguments.u16()?);
        let wanted = interfaces(&mut arguments, count)?;
        let given: Vec<_> = wanted
            .into_iter()
            .map(|interface| {
                let reference = self.give(&ipid, interface, REFERENCES)?;
                Ok(self.exporter.reference(interface, reference, self.caller))
            })
            .collect();
        results.count(given.len());
        for result in &given {
            results.u32(result.as_ref().err().unwrap_or(&HResult::OK).0);
        }
        write_references(results, given.iter().map(|given| given.as_deref().ok()));
        Ok(HResult::OK)
    }

    fn give(
        &self,
        ipid: &Uuid,
        interface: Uuid,
        references: u32,
    ) -> Result<StandardReference, HResult> {
        let found = self.exporter.find(ipid, self.caller);
        let found = found.map_err(|_| HResult::INVALID_OBJREF)?;
        self.exporter
            .table()
            .export_again(found.oid, interface, references)
    }

    fn add_references(
        &self,
        mut arguments: Reader<'_>,
        results: &mut Writer,
    ) -> Result<HResult, Fault> {
        let wanted = references(&mut arguments)?;
        results.count(wanted.len());
        for (ipid, more) in wanted {
            let added = self.exporter.find(&ipid, self.caller).is_ok()
                && self.exporter.table().add_references(&ipid, more);
            let result = match added {
                true => HResult::OK,
                false => HResult::INVALID_ARGUMENT,
            };
            results.u32(result.0);
        }
        Ok(HResult::OK)
    }

    /// Always succeeds: clients release twice, and what was never theirs.
    fn release(&self, mut arguments: Reader<'_>) -> Result<HResult, Fault> {
        for (ipid, fewer) in references(&mut arguments)? {
            if self.exporter.find(&ipid, self.caller).is_ok() {
                self.exporter.table().release(&ipid, fewer);
            }
        }
        Ok(HResult::OK)
    }
}

/// A conformant array of IIDs whose size was told before.
pub(crate) fn interfaces(arguments: &mut Reader<'_>, count: usize) -> Result<Vec<Uuid>, Fault> {
    let size = arguments.count(MOST, 16)?;
    if size != count {
        return Err(Fault::BAD_STUB_DATA);
    }
    (0..size).map(|_| Ok(arguments.uuid()?)).collect()
}

/// An array of REMINTERFACEREF: IPIDs with public references. Private ones are taken for public.
fn references(arguments: &mut Reader<'_>) -> Result<Vec<(Uuid, u32)>, Fault> {
    let count = usize::from(arguments.u16()?);
    if arguments.count(MOST, 24)? != count {
        return Err(Fault::BAD_STUB_DATA);
    }
    let one = |_| {
        let ipid = arguments.uuid()?;
        let (public, private) = (arguments.u32()?, arguments.u32()?);
        Ok((ipid, public.saturating_add(private)))
    };
    (0..count).map(one).collect()
}

/// A conformant array of pointers to interfaces, and what they point to.
pub(crate) fn write_references<'a>(
    results: &mut Writer,
    references: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone,
) {
    results.count(references.len());
    for reference in references.clone() {
        match reference {
            Some(_) => results.pointer(),
            None => results.null(),
        };
    }
    for reference in references.flatten() {
        objref::write_interface(results, reference);
    }
}
