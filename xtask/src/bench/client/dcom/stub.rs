//! Arguments and results of calls: what stands before and after them, strings, objects.

use cim::Instance;
use dce_rpc::ndr::{NdrError, Reader, Writer};
use dcom::objref::{self, StandardReference};
use dcom::orpc::{self, OrpcThis};
use dcom::{HResult, ObjRef};
use uuid::Uuid;
use wmi_object::Limits;

use super::ORPCTHAT;
use crate::Failure;

/// Of the one chain of calls that there is.
const CAUSALITY: Uuid = Uuid::from_u128(0x3c9c_5e1d_8a70_4f5a_9a2e_6f1b_7d20_c418);

/// Begins the arguments of a call of an object.
pub fn arguments() -> Writer {
    let mut writer = Writer::new();
    let this = OrpcThis {
        major: orpc::MAJOR,
        minor: orpc::MINOR,
        causality: CAUSALITY,
    };
    this.write(&mut writer);
    writer
}

/// A BSTR.
pub fn bstr(writer: &mut Writer, text: &str) {
    let units: Vec<u16> = text.encode_utf16().collect();
    writer.pointer().count(units.len());
    writer.count(units.len() * 2).count(units.len());
    for unit in units {
        writer.u16(unit);
    }
    writer.align(4);
}

/// The HRESULT at the end of results.
pub fn result(results: &[u8]) -> Result<HResult, NdrError> {
    let last = results.last_chunk().ok_or(NdrError::End)?;
    Ok(HResult(u32::from_le_bytes(*last)))
}

/// The object that results begin with.
pub fn first_object(results: &[u8]) -> Result<&[u8], NdrError> {
    let mut reader = Reader::new(results);
    reader.bytes(ORPCTHAT)?;
    objref::read_interface_pointer(&mut reader)?.ok_or(NdrError::Value)
}

/// A reference to an object there.
pub fn standard(bytes: &[u8]) -> Result<StandardReference, Failure> {
    match ObjRef::decode(bytes)? {
        ObjRef::Standard { reference, .. } => Ok(reference),
        ObjRef::Custom { .. } => Err("an object came by value".into()),
    }
}

/// The objects by value in results, wherever they stand.
pub fn objects(results: &[u8]) -> Result<Vec<Instance>, Failure> {
    let starts = (0..results.len()).filter_map(|at| results.get(at..));
    let units = starts.filter_map(wmi_object::block::unit_of_objref);
    units
        .map(|unit| {
            let object = wmi_object::decode(unit, Limits::REQUEST)?.into_instance();
            object.ok_or_else(|| "a class came instead of an instance".into())
        })
        .collect()
}
