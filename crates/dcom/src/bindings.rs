//! Where this process can be reached, as clients are told (MS-DCOM 2.2.19).

use dce_rpc::ndr::{NdrError, Reader, Writer};

/// TCP, as a string binding has it.
const TCP: u16 = 7;
const NTLM: u16 = 10;
const SPNEGO: u16 = 9;
/// More characters than any list of bindings has.
const MOST_UNITS: usize = 16 << 10;

/// DUALSTRINGARRAY: addresses, then security providers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    units: Vec<u16>,
    security_offset: u16,
}

impl Bindings {
    /// Bindings for these addresses (`192.0.2.1[49670]`), with NTLM and SPNEGO.
    ///
    /// Addresses beyond what a list can hold are left out.
    pub fn new<S: AsRef<str>>(addresses: impl IntoIterator<Item = S>) -> Self {
        let mut units = Vec::new();
        for address in addresses {
            let length = address.as_ref().encode_utf16().count();
            if units.len() + length + 32 > MOST_UNITS {
                break;
            }
            units.push(TCP);
            units.extend(address.as_ref().encode_utf16());
            units.push(0);
        }
        units.push(0);
        let security_offset = u16::try_from(units.len()).unwrap_or(u16::MAX);
        for provider in [NTLM, SPNEGO] {
            units.extend([provider, 0xffff, 0]);
        }
        units.push(0);
        Bindings {
            units,
            security_offset,
        }
    }

    /// The addresses.
    pub fn addresses(&self) -> Vec<String> {
        let end = usize::from(self.security_offset).min(self.units.len());
        let units = self.units.get(..end).unwrap_or_default();
        units
            .split(|unit| *unit == 0)
            .filter_map(|entry| entry.split_first())
            .map(|(_, address)| String::from_utf16_lossy(address))
            .collect()
    }

    fn count(&self) -> u16 {
        u16::try_from(self.units.len()).unwrap_or(u16::MAX)
    }

    /// As NDR has a conformant structure: the array's size, and itself, padded to four.
    pub fn write(&self, writer: &mut Writer) {
        writer.u32(self.count().into());
        self.write_packed(writer);
        writer.align(4);
    }

    /// As object references have it: without the array's size, and without alignment.
    pub fn write_packed(&self, writer: &mut Writer) {
        writer.bytes(&self.count().to_le_bytes());
        writer.bytes(&self.security_offset.to_le_bytes());
        for unit in &self.units {
            writer.bytes(&unit.to_le_bytes());
        }
    }

    /// Reads what [`Bindings::write_packed`] writes.
    pub fn read_packed(reader: &mut Reader<'_>) -> Result<Self, NdrError> {
        let count = u16::from_le_bytes(reader.array()?);
        let security_offset = u16::from_le_bytes(reader.array()?);
        if security_offset > count || usize::from(count) > MOST_UNITS {
            return Err(NdrError::Value);
        }
        let bytes = reader.bytes(usize::from(count) * 2)?;
        let (units, _) = bytes.as_chunks();
        Ok(Bindings {
            units: units.iter().map(|unit| u16::from_le_bytes(*unit)).collect(),
            security_offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_come_back() {
        let bindings = Bindings::new(["192.0.2.1[49670]", "HOST[49670]"]);
        assert_eq!(bindings.addresses(), ["192.0.2.1[49670]", "HOST[49670]"]);
        let mut writer = Writer::new();
        bindings.write_packed(&mut writer);
        let bytes = writer.into_bytes();
        let read = Bindings::read_packed(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(read, bindings);
        assert!(Bindings::read_packed(&mut Reader::new(&bytes[1..])).is_err());
    }

    #[test]
    fn too_many_addresses_are_cut_off() {
        let long = "x".repeat(1000);
        let bindings = Bindings::new(vec![long; 100]);
        assert_eq!(bindings.addresses().len(), 16);
        assert_eq!(usize::from(bindings.count()), bindings.units.len());
    }
}
