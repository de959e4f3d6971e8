//! Strings and pointers of WMI's interfaces, from and to stubs (MS-WMI 2.2, MS-OAUT 2.2.23), and
//! how long a client wants to wait.

use dce_rpc::ndr::{NdrError, Reader, Writer};
use dcom::{HResult, objref};
use std::time::Duration;

/// The longest string that is taken from a client, in 16-bit units: longer than any path or query.
const LONGEST: usize = 256 << 10;
/// The longest name of a namespace, locale or machine.
const LONGEST_NAME: usize = 4096;
/// The size of a string that is not there.
const NONE: u32 = u32::MAX;

/// A BSTR. Some clients count the zero at its end, some do not.
pub(crate) fn read_bstr(reader: &mut Reader<'_>) -> Result<Option<String>, NdrError> {
    if !reader.pointer()? {
        return Ok(None);
    }
    let maximum = reader.count(LONGEST, 2)?;
    let bytes = reader.u32()?;
    let count = reader.count(LONGEST, 2)?;
    if count > maximum {
        return Err(NdrError::Value);
    }
    let mut units = reader.units(count)?;
    reader.align(4);
    if bytes == NONE {
        return Ok(None);
    }
    while units.last() == Some(&0) {
        units.pop();
    }
    dce_rpc::ndr::text(&units).map(Some)
}

/// A `[unique, string] wchar_t *`.
pub(crate) fn read_string(reader: &mut Reader<'_>) -> Result<Option<String>, NdrError> {
    if !reader.pointer()? {
        return Ok(None);
    }
    let text = reader.wide_string(LONGEST_NAME)?;
    reader.align(4);
    Ok(Some(text))
}

/// Passes over an `IWbemContext *`: values for providers, of which ours want none.
pub(crate) fn skip_context(reader: &mut Reader<'_>) -> Result<(), NdrError> {
    objref::read_interface_pointer(reader).map(|_| ())
}

/// Reads an `[in, out, unique] IFoo **`: whether the client has room for a result. What it puts
/// there has no meaning.
pub(crate) fn read_room(reader: &mut Reader<'_>) -> Result<bool, NdrError> {
    let room = reader.pointer()?;
    if room {
        objref::read_interface_pointer(reader)?;
    }
    Ok(room)
}

/// Writes what [`read_room`] reads: nothing where the client has no room.
pub(crate) fn write_result(results: &mut Writer, room: bool, reference: Option<&[u8]>) {
    if room {
        results.pointer();
        objref::write_interface_pointer(results, reference);
    } else {
        results.null();
    }
}

/// A time in milliseconds in which something is to be there: none if it may take any time.
pub(crate) fn patience(milliseconds: i32) -> Result<Option<Duration>, HResult> {
    match u64::try_from(milliseconds) {
        Ok(milliseconds) => Ok(Some(Duration::from_millis(milliseconds))),
        Err(_) if milliseconds == -1 => Ok(None),
        Err(_) => Err(crate::status::INVALID_PARAMETER),
    }
}
