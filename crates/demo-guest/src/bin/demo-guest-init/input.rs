//! Keys that are pressed: the ACPI power button ends the guest, keys of a keyboard are told.

use std::fs::{self, File};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use demo_guest::protocol::{Ending, KeyPress};

use crate::console::Console;
use crate::counter::Counter;
use crate::{Failure, system};

/// Size of the kernel's `struct input_event` on 64-bit machines: two times of 8 bytes, type, code,
/// value.
const EVENT_SIZE: usize = 24;
const EVENT_TYPE_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;

/// Ends counting between two rounds, says so and ends the machine.
pub fn end(counter: &Counter, console: &Console, ending: Ending) -> Result<(), Failure> {
    counter.halt();
    console.say(&ending.to_string());
    // Give the last line time to leave the port before the port goes.
    std::thread::sleep(Duration::from_millis(50));
    Ok(system::end(ending)?)
}

/// Watches all keys and buttons that the machine has.
pub fn watch(counter: &Arc<Counter>, console: &Arc<Console>) -> Result<(), Failure> {
    for entry in fs::read_dir("/dev/input")? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("event") {
            continue;
        }
        let mut device = File::open(entry.path())?;
        let (counter, console) = (Arc::clone(counter), Arc::clone(console));
        crate::spawn("input", move || {
            let mut event = [0_u8; EVENT_SIZE];
            while device.read_exact(&mut event).is_ok() {
                if let Some(key) = pressed_key(&event) {
                    take_key(&counter, &console, key);
                }
            }
        })?;
    }
    Ok(())
}

fn take_key(counter: &Counter, console: &Console, key: u16) {
    if key != KEY_POWER {
        console.say(&KeyPress { code: key }.to_string());
        return;
    }
    console.say("rootvirt-guest power-button");
    if let Err(error) = end(counter, console, Ending::PowerOff) {
        console.say(&format!(
            "rootvirt-guest warning: cannot power off: {error}"
        ));
    }
}

fn pressed_key(event: &[u8; EVENT_SIZE]) -> Option<u16> {
    let [_time @ .., t0, t1, c0, c1, v0, v1, v2, v3] = event;
    let is_press = u16::from_le_bytes([*t0, *t1]) == EVENT_TYPE_KEY
        && i32::from_le_bytes([*v0, *v1, *v2, *v3]) == PRESSED;
    is_press.then(|| u16::from_le_bytes([*c0, *c1]))
}
