//! Ending the guest: on command, or when the ACPI power button is pressed.

use std::fs::{self, File};
use std::io::Read;
use std::sync::Arc;

use demo_guest::protocol::Ending;

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
    std::thread::sleep(std::time::Duration::from_millis(50));
    Ok(system::end(ending)?)
}

/// Powers off when a power button is pressed.
pub fn watch_buttons(counter: &Arc<Counter>, console: &Arc<Console>) -> Result<(), Failure> {
    for entry in fs::read_dir("/sys/class/input")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let device = fs::read_to_string(format!("/sys/class/input/{name}/device/name"));
        let is_button = device.is_ok_and(|device| device.trim() == "Power Button");
        if !name.starts_with("event") || !is_button {
            continue;
        }
        let mut button = File::open(format!("/dev/input/{name}"))?;
        let (counter, console) = (Arc::clone(counter), Arc::clone(console));
        crate::spawn("power-button", move || {
            let mut event = [0_u8; EVENT_SIZE];
            while button.read_exact(&mut event).is_ok() {
                if is_press(&event) {
                    console.say("rootvirt-guest power-button");
                    if let Err(error) = end(&counter, &console, Ending::PowerOff) {
                        console.say(&format!(
                            "rootvirt-guest warning: cannot power off: {error}"
                        ));
                    }
                }
            }
        })?;
    }
    Ok(())
}

fn is_press(event: &[u8; EVENT_SIZE]) -> bool {
    let [_time @ .., t0, t1, c0, c1, v0, v1, v2, v3] = event;
    u16::from_le_bytes([*t0, *t1]) == EVENT_TYPE_KEY
        && u16::from_le_bytes([*c0, *c1]) == KEY_POWER
        && i32::from_le_bytes([*v0, *v1, *v2, *v3]) == PRESSED
}
