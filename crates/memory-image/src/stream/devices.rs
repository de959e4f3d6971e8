//! The end of a stream: the devices and QEMU's description of them.
//!
//! A device's section does not say how long it is; only QEMU's code for the device knows. But the
//! description, a text in JSON at the very end, names all of them in their order, so that the
//! beginnings can be found, and with them whether something is missing.

use super::Input;
use serde::Deserialize;

#[derive(Deserialize)]
struct Description {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    instance_id: u32,
}

/// Whether these bytes are whole: a section for each device that the description names, the mark of
/// the end, the description, and nothing else.
pub fn check(bytes: &[u8], footers: bool) -> Result<(), String> {
    let (sections, text) = description(bytes).ok_or("its description is missing or cut off")?;
    let description: Description =
        serde_json::from_slice(text).map_err(|e| format!("its description: {e}"))?;
    let mut at = 0;
    let mut devices = description.devices.iter().peekable();
    while let Some(device) = devices.next() {
        let rest = sections.get(at..).unwrap_or_default();
        let found = section(rest, device);
        let (id, body) =
            found.ok_or_else(|| format!("the section of {} is not at its place", device.name))?;
        let rest = rest.get(body..).unwrap_or_default();
        let next = devices.peek().copied();
        let length = body_length(rest, id, next, footers);
        at += body + length.ok_or_else(|| format!("the section of {} has no end", device.name))?;
    }
    match at == sections.len() {
        true => Ok(()),
        false => Err("there is something behind the last device".into()),
    }
}

/// The sections, and the text behind them: 00, 06, length (u32), text. The text has no byte 00, so
/// that the last such place is the right one.
fn description(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.len();
    let last = bytes.iter().rposition(|b| *b == 0)?;
    // The length has bytes 00, too.
    let first = last.saturating_sub(6);
    (first..=last).find_map(|at| {
        let (sections, rest) = bytes.split_at_checked(at)?;
        let mut input = Input::new(rest);
        let begins = input.byte() == Some(0) && input.byte() == Some(6);
        let length = usize::try_from(input.number32()?).ok()?;
        let text = rest.get(input.position()..)?;
        (begins && text.len() == length && at + input.position() + length == end)
            .then_some((sections, text))
    })
}

/// The number of a section that is this device's, and where its body begins.
fn section(bytes: &[u8], device: &Device) -> Option<(u32, usize)> {
    let mut input = Input::new(bytes);
    if input.byte()? != 4 {
        return None;
    }
    let id = input.number32()?;
    let same = input.name()? == device.name && input.number32()? == device.instance_id;
    input.number32()?;
    same.then_some((id, input.position()))
}

/// How long a body with its footer is: up to where the next device's section begins.
fn body_length(bytes: &[u8], id: u32, next: Option<&Device>, footers: bool) -> Option<usize> {
    let Some(next) = next else {
        let ends = !footers || bytes.ends_with(&footer(id));
        return ends.then_some(bytes.len());
    };
    if !footers {
        return (0..bytes.len()).find(|at| begins(bytes, *at, next));
    }
    let footer = footer(id);
    let places = bytes.windows(footer.len()).enumerate();
    places
        .filter(|(_, window)| *window == footer)
        .map(|(at, _)| at + footer.len())
        .find(|at| begins(bytes, *at, next))
}

fn begins(bytes: &[u8], at: usize, device: &Device) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    section(rest, device).is_some()
}

fn footer(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_be_bytes();
    [0x7e, a, b, c, d]
}
