//! Activation properties (MS-DCOM 2.2.22): what a client wants to activate, and what it gets, each a
//! bag of structures that are pickled one by one (MS-RPCE 2.2.6).

use crate::bindings::Bindings;
use crate::hresult::HResult;
use crate::objref;
use crate::orpc;
use dce_rpc::ndr::{NdrError, Reader, Writer};
use uuid::{Uuid, uuid};

/// The class that reads what clients send.
pub const CLSID_IN: Uuid = uuid!("00000338-0000-0000-c000-000000000046");
/// The interface of what clients send.
pub const IID_IN: Uuid = uuid!("000001a2-0000-0000-c000-000000000046");
/// The class that reads what they get.
pub const CLSID_OUT: Uuid = uuid!("00000339-0000-0000-c000-000000000046");
/// The interface of what they get.
pub const IID_OUT: Uuid = uuid!("000001a3-0000-0000-c000-000000000046");

const INSTANTIATION: Uuid = uuid!("000001ab-0000-0000-c000-000000000046");
const PROPS_OUT: Uuid = uuid!("00000339-0000-0000-c000-000000000046");
const SCM_REPLY: Uuid = uuid!("000001b6-0000-0000-c000-000000000046");

/// More properties than there are.
const MOST_PROPERTIES: usize = 32;
/// More interfaces than any client asks for at once.
pub(crate) const MOST_INTERFACES: usize = 256;
/// The level at which clients are told to call: signed. A client that cannot encrypt (aiowmi) would
/// give up if it were told to, and one that is to encrypt does so anyway.
pub(crate) const LEVEL_HINT: u32 = 5;
/// Common type header: version 1, little-endian, eight bytes long.
const COMMON: [u8; 8] = [1, 0x10, 8, 0, 0xcc, 0xcc, 0xcc, 0xcc];
const BOTH_HEADERS: usize = 16;
/// The structure is for another machine.
const DIFFERENT_MACHINE: u32 = 2;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The class.
    pub class: Uuid,
    /// The interfaces of the new object that the client wants.
    pub interfaces: Vec<Uuid>,
}

impl Request {
    /// Reads the activation properties of a request. Those that nothing depends on are skipped.
    pub fn decode(blob: &[u8]) -> Result<Self, NdrError> {
        Self::instantiation(property(blob, INSTANTIATION)?)
    }

    /// InstantiationInfoData.
    fn instantiation(mut reader: Reader<'_>) -> Result<Self, NdrError> {
        let class = reader.uuid()?;
        for _context_flags_surrogate in 0..3 {
            reader.u32()?;
        }
        let count = usize::try_from(reader.u32()?).map_err(|_| NdrError::Count)?;
        reader.u32()?;
        let there = reader.pointer()?;
        let (_size, major, _minor) = (reader.u32()?, reader.u16()?, reader.u16()?);
        // impacket leaves the version zero.
        if ![0, orpc::MAJOR].contains(&major) || count > MOST_INTERFACES {
            return Err(NdrError::Value);
        }
        let interfaces = match there {
            true => array(&mut reader, count, 16, Reader::uuid)?,
            false => Vec::new(),
        };
        Ok(Request { class, interfaces })
    }

    /// The bytes, with no other properties.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::new();
        body.uuid(self.class).u32(0).u32(0).u32(0);
        body.count(self.interfaces.len()).u32(0).pointer();
        body.u32(0).u16(orpc::MAJOR).u16(orpc::MINOR);
        body.count(self.interfaces.len());
        for interface in &self.interfaces {
            body.uuid(*interface);
        }
        blob(&[(INSTANTIATION, pickled(body))])
    }
}

/// What a client gets.
pub struct Reply<'a> {
    /// Each interface that was asked for: a reference, or why not.
    pub interfaces: &'a [(Uuid, Result<Vec<u8>, HResult>)],
    /// The exporter.
    pub oxid: u64,
    /// Where the exporter's objects are called.
    pub bindings: &'a Bindings,
    /// The IPID of its `IRemUnknown`.
    pub unknown: Uuid,
}

impl Reply<'_> {
    /// The bytes. Clients rely on the order of the two properties.
    pub fn encode(&self) -> Vec<u8> {
        blob(&[(PROPS_OUT, self.interfaces()), (SCM_REPLY, self.exporter())])
    }

    /// PropsOutInfo.
    fn interfaces(&self) -> Vec<u8> {
        let mut body = Writer::new();
        body.count(self.interfaces.len());
        body.pointer().pointer().pointer();
        body.count(self.interfaces.len());
        for (interface, _) in self.interfaces {
            body.uuid(*interface);
        }
        body.count(self.interfaces.len());
        for (_, result) in self.interfaces {
            body.u32(result.as_ref().err().unwrap_or(&HResult::OK).0);
        }
        let references = self.interfaces.iter();
        let references = references.map(|(_, result)| result.as_deref().ok());
        crate::dispatch::write_references(&mut body, references);
        pickled(body)
    }

    /// ScmReplyInfoData.
    fn exporter(&self) -> Vec<u8> {
        let mut body = Writer::new();
        body.null().pointer();
        body.u64(self.oxid).pointer();
        body.uuid(self.unknown).u32(LEVEL_HINT);
        body.u16(orpc::MAJOR).u16(orpc::MINOR);
        self.bindings.write(&mut body);
        pickled(body)
    }
}

/// What a client got, as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// For each interface that was asked for, in that order: a reference, or why not.
    pub references: Vec<Result<Vec<u8>, HResult>>,
    /// The exporter.
    pub oxid: u64,
    /// The IPID of its `IRemUnknown`.
    pub unknown: Uuid,
}

impl Received {
    /// Reads what [`Reply::encode`] writes.
    pub fn decode(blob: &[u8]) -> Result<Self, NdrError> {
        let references = Self::references(property(blob, PROPS_OUT)?)?;
        let mut exporter = property(blob, SCM_REPLY)?;
        exporter.pointer()?;
        if !exporter.pointer()? {
            return Err(NdrError::Value);
        }
        let oxid = exporter.u64()?;
        exporter.pointer()?;
        Ok(Received {
            references,
            oxid,
            unknown: exporter.uuid()?,
        })
    }

    /// PropsOutInfo.
    fn references(mut reader: Reader<'_>) -> Result<Vec<Result<Vec<u8>, HResult>>, NdrError> {
        let count = usize::try_from(reader.u32()?).map_err(|_| NdrError::Count)?;
        let there = (reader.pointer()?, reader.pointer()?, reader.pointer()?);
        if count > MOST_INTERFACES || there != (true, true, true) {
            return Err(NdrError::Value);
        }
        array(&mut reader, count, 16, Reader::uuid)?;
        let results = array(&mut reader, count, 4, Reader::u32)?;
        let pointers = array(&mut reader, count, 4, Reader::pointer)?;
        let both = results.into_iter().zip(pointers);
        both.map(|(result, there)| match there {
            true => Ok(Ok(objref::read_interface(&mut reader)?.to_vec())),
            false => Ok(Err(HResult(result))),
        })
        .collect()
    }
}

/// The first property of a class in a blob, unpickled.
fn property(blob: &[u8], wanted: Uuid) -> Result<Reader<'_>, NdrError> {
    let mut reader = Reader::new(blob);
    let (_size, _reserved) = (reader.u32()?, reader.u32()?);
    let rest = reader.rest();
    let mut header = unpickled(rest)?;
    let _total = header.u32()?;
    let header_size = usize::try_from(header.u32()?).map_err(|_| NdrError::Count)?;
    let (_reserved, _context) = (header.u32()?, header.u32()?);
    let count = usize::try_from(header.u32()?).map_err(|_| NdrError::Count)?;
    header.uuid()?;
    let there = (header.pointer()?, header.pointer()?);
    header.pointer()?;
    if count > MOST_PROPERTIES || there != (true, true) {
        return Err(NdrError::Count);
    }
    let classes = array(&mut header, count, 16, Reader::uuid)?;
    let sizes = array(&mut header, count, 4, Reader::u32)?;
    let mut properties = rest.get(header_size..).ok_or(NdrError::End)?;
    for (class, size) in classes.into_iter().zip(sizes) {
        let size = usize::try_from(size).map_err(|_| NdrError::Count)?;
        let (property, after) = properties.split_at_checked(size).ok_or(NdrError::End)?;
        if class == wanted {
            return unpickled(property);
        }
        properties = after;
    }
    Err(NdrError::Value)
}

fn array<'a, T>(
    reader: &mut Reader<'a>,
    count: usize,
    size: usize,
    one: impl Fn(&mut Reader<'a>) -> Result<T, NdrError>,
) -> Result<Vec<T>, NdrError> {
    if reader.count(count, size)? != count {
        return Err(NdrError::Value);
    }
    (0..count).map(|_| one(reader)).collect()
}

/// Reads the body of a pickled structure.
fn unpickled(bytes: &[u8]) -> Result<Reader<'_>, NdrError> {
    match bytes.split_at_checked(BOTH_HEADERS) {
        Some(([1, 0x10, 8, 0, ..], body)) => Ok(Reader::new(body)),
        Some(_) => Err(NdrError::Value),
        None => Err(NdrError::End),
    }
}

/// A pickled structure, padded to eight.
fn pickled(mut body: Writer) -> Vec<u8> {
    body.align(8);
    let body = body.into_bytes();
    let mut writer = Writer::new();
    writer.bytes(&COMMON).count(body.len()).u32(0).bytes(&body);
    writer.into_bytes()
}

/// The blob: sizes, the header that lists the properties, the properties.
fn blob(properties: &[(Uuid, Vec<u8>)]) -> Vec<u8> {
    let header = |total: usize, header: usize| {
        let mut body = Writer::new();
        body.count(total)
            .count(header)
            .u32(0)
            .u32(DIFFERENT_MACHINE);
        body.count(properties.len()).uuid(Uuid::nil());
        body.pointer().pointer().null();
        body.count(properties.len());
        for (class, _) in properties {
            body.uuid(*class);
        }
        body.count(properties.len());
        for (_, property) in properties {
            body.count(property.len());
        }
        pickled(body)
    };
    let header_size = header(0, 0).len();
    let total = header_size
        + properties
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum::<usize>();
    let mut writer = Writer::new();
    writer
        .count(total)
        .u32(0)
        .bytes(&header(total, header_size));
    for (_, property) in properties {
        writer.bytes(property);
    }
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_and_broken_ones_do_not() {
        let request = Request {
            class: Uuid::from_u128(1),
            interfaces: vec![Uuid::from_u128(2), Uuid::from_u128(3)],
        };
        let bytes = request.encode();
        assert_eq!(Request::decode(&bytes), Ok(request));
        for end in 0..bytes.len() - 8 {
            assert!(Request::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn replies_come_back_and_broken_ones_do_not() {
        let interfaces = [
            (Uuid::from_u128(2), Ok(vec![1, 2, 3])),
            (Uuid::from_u128(3), Err(HResult::NO_INTERFACE)),
            (Uuid::from_u128(4), Ok(vec![4])),
        ];
        let reply = Reply {
            interfaces: &interfaces,
            oxid: 5,
            bindings: &Bindings::new(["192.0.2.1[49670]"]),
            unknown: Uuid::from_u128(6),
        };
        let bytes = reply.encode();
        let expected = Received {
            references: interfaces.into_iter().map(|(_, given)| given).collect(),
            oxid: 5,
            unknown: Uuid::from_u128(6),
        };
        assert_eq!(Received::decode(&bytes), Ok(expected));
        for end in 0..bytes.len() / 2 {
            assert!(Received::decode(&bytes[..end]).is_err(), "{end}");
        }
    }
}
