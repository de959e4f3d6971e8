//! The devices' part of a recorded stream: their sections, the mark of the stream's end, and QEMU's
//! own description of them as JSON. A postcopy package takes the sections alone.

const SECTION_FULL: u8 = 0x04;
const END_OF_STREAM: u8 = 0x00;
const DESCRIPTION: u8 = 0x06;
/// The mark of the end, the mark of the description, and its length.
const BEFORE_JSON: usize = 1 + 1 + 4;

/// Why recorded devices cannot be packaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum DevicesError {
    #[error("it does not begin with the section of a device")]
    Beginning,
    #[error("it does not end with a description of the devices")]
    NoDescription,
    #[error("its section {number} is not that of {name}, which its description has there")]
    Order { number: usize, name: String },
}

/// Cuts off the end and the description, after comparing the description with the sections.
pub fn sections(recorded: &[u8]) -> Result<&[u8], DevicesError> {
    let (sections, description) = split(recorded).ok_or(DevicesError::NoDescription)?;
    if sections.first() != Some(&SECTION_FULL) {
        return Err(DevicesError::Beginning);
    }
    let devices = description.get("devices").and_then(|d| d.as_array());
    let devices = devices.ok_or(DevicesError::NoDescription)?;
    // The lengths of sections are not in the stream. That each header of the description is there,
    // in its order, is as much as can be told without knowing every device.
    let mut rest = sections;
    for (number, device) in devices.iter().enumerate() {
        let name = device.get("name").and_then(|n| n.as_str());
        let name = name.ok_or(DevicesError::NoDescription)?;
        let found = header_of(rest, name, number == 0);
        rest = found.ok_or_else(|| DevicesError::Order {
            number,
            name: name.to_owned(),
        })?;
    }
    Ok(sections)
}

/// The sections and the description. There is one place only where a length leads to the last
/// byte and JSON follows; it is looked for from the end.
fn split(recorded: &[u8]) -> Option<(&[u8], serde_json::Value)> {
    let last = recorded.len().checked_sub(BEFORE_JSON)?;
    (0..=last).rev().find_map(|at| {
        let (sections, end) = recorded.split_at_checked(at)?;
        let (head, json) = end.split_first_chunk::<BEFORE_JSON>()?;
        let [END_OF_STREAM, DESCRIPTION, length @ ..] = head else {
            return None;
        };
        let fits = u32::from_be_bytes(*length) as usize == json.len();
        let value = fits.then(|| serde_json::from_slice(json).ok())??;
        Some((sections, value))
    })
}

/// What follows the header of the next section with this name: mark, number, name.
fn header_of<'a>(bytes: &'a [u8], name: &str, here: bool) -> Option<&'a [u8]> {
    let length = u8::try_from(name.len()).ok()?;
    let header = 1 + 4 + 1 + name.len();
    let places = bytes.len().checked_sub(header)?;
    let most = if here { 0 } else { places };
    (0..=most).find_map(|at| {
        let rest = bytes.get(at..)?;
        let (mark, rest) = rest.split_first()?;
        if *mark != SECTION_FULL {
            return None;
        }
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (found, rest) = rest.split_first()?;
        let rest = rest.strip_prefix(name.as_bytes())?;
        (*found == length).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn section(number: u32, name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![SECTION_FULL];
        bytes.extend(number.to_be_bytes());
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(1u32.to_be_bytes());
        bytes.extend(data);
        bytes.push(0x7e);
        bytes.extend(number.to_be_bytes());
        bytes
    }

    fn recorded(sections: &[u8], names: &[&str]) -> Vec<u8> {
        let devices: Vec<_> = names
            .iter()
            .map(|name| serde_json::json!({"name": name}))
            .collect();
        let json = serde_json::json!({"page_size": 4096, "devices": devices}).to_string();
        let mut bytes = sections.to_vec();
        bytes.extend([END_OF_STREAM, DESCRIPTION]);
        bytes.extend((json.len() as u32).to_be_bytes());
        bytes.extend(json.as_bytes());
        bytes
    }

    #[test]
    fn the_end_and_the_description_are_cut_off() {
        // Data that looks like an end, and like a header.
        let mut both = section(7, "timer", &[0, 6, 0, 0, 0, 2, b'{', b'}', 4, 4]);
        both.extend(section(8, "cpu", b"xyz"));
        let whole = recorded(&both, &["timer", "cpu"]);
        assert_eq!(sections(&whole), Ok(both.as_slice()));
    }

    #[test]
    fn what_does_not_fit_its_description_is_refused() {
        let one = section(7, "timer", b"");
        let missing = sections(&recorded(&one, &["timer", "cpu"])).unwrap_err();
        let order = DevicesError::Order {
            number: 1,
            name: "cpu".into(),
        };
        assert_eq!(missing, order);
        assert_eq!(sections(&one), Err(DevicesError::NoDescription));
        assert_eq!(sections(b""), Err(DevicesError::NoDescription));
        assert_eq!(
            sections(&recorded(b"\x01", &[])),
            Err(DevicesError::Beginning)
        );
        let whole = recorded(&one, &["timer"]);
        for end in 0..whole.len() {
            assert!(sections(&whole[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = sections(&bytes);
        }
    }
}
