//! Msvm_Keyboard: keys pressed on the keyboard of a machine that has a process.

use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::keys;
use crate::subject::Subject;
use cim::Value;
use cim_broker::Arguments;
use machines::MachineId;
use machines::console::{KeyEvent, MOST_KEYS};
use machines::request::Actor;
use std::time::Duration;

/// The longest text, and the most scan codes, of one call.
const MOST_TYPED: usize = 1024;
/// Between two strokes: guests read a keyboard's buffer of 16 codes in this time.
const BETWEEN: Duration = Duration::from_millis(10);

/// What is done to the key that `keyCode` names.
#[derive(Clone, Copy)]
pub(super) enum Touch {
    Press,
    Release,
    Type,
}

fn machine_of(target: &Subject) -> Result<MachineId, Refusal> {
    match target {
        Subject::Device(machine, _) => Ok(machine.id),
        _ => Err(Refusal::invalid(
            "This is not a keyboard of a virtual machine.",
        )),
    }
}

fn check_length(name: &str, length: usize) -> Result<(), Refusal> {
    match length {
        0 => Err(Refusal::invalid(format!("{name} is missing."))),
        _ if length > MOST_TYPED => Err(Refusal::invalid(format!(
            "{name} is longer than {MOST_TYPED}; call more than once."
        ))),
        _ => Ok(()),
    }
}

impl Host {
    pub(super) async fn touch_key(
        &self,
        actor: &Actor,
        target: &Subject,
        arguments: &Arguments,
        touch: Touch,
    ) -> Outcome {
        let code = arguments.get("keyCode").as_u32();
        let code = code.ok_or_else(|| Refusal::invalid("keyCode is missing."))?;
        let key = keys::of_virtual_key(code).ok_or_else(|| {
            Refusal::invalid(format!("keyCode {code} is no key of the keyboard."))
        })?;
        let events = match touch {
            Touch::Press => vec![KeyEvent { key, down: true }],
            Touch::Release => vec![KeyEvent { key, down: false }],
            Touch::Type => keys::stroke(key),
        };
        self.send(actor, target, vec![events]).await
    }

    pub(super) async fn type_text(
        &self,
        actor: &Actor,
        target: &Subject,
        arguments: &Arguments,
    ) -> Outcome {
        let text = arguments.get("asciiText").as_str().unwrap_or_default();
        check_length("asciiText", text.len())?;
        let strokes = text
            .chars()
            .map(|c| {
                keys::of_character(c).ok_or_else(|| {
                    Refusal::invalid(format!("asciiText: no key types the character {c:?}."))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.send(actor, target, strokes).await
    }

    pub(super) async fn type_scan_codes(
        &self,
        actor: &Actor,
        target: &Subject,
        arguments: &Arguments,
    ) -> Outcome {
        let codes = arguments.get("Scancodes");
        let codes: Vec<u8> = codes
            .as_array()
            .unwrap_or_default()
            .iter()
            .filter_map(|code| match code {
                Value::Uint8(code) => Some(*code),
                _ => None,
            })
            .collect();
        check_length("Scancodes", codes.len())?;
        let events = keys::of_scan_codes(&codes);
        let events = events.ok_or_else(|| {
            Refusal::invalid("Scancodes are not whole codes of set 1 (with the prefix E0 or none).")
        })?;
        let strokes = events.chunks(MOST_KEYS / 2).map(<[_]>::to_vec).collect();
        self.send(actor, target, strokes).await
    }

    pub(super) async fn control_alt_delete(&self, actor: &Actor, target: &Subject) -> Outcome {
        let strokes = vec![keys::control_alt_delete()];
        self.send(actor, target, strokes).await
    }

    async fn send(&self, actor: &Actor, target: &Subject, strokes: Vec<Vec<KeyEvent>>) -> Outcome {
        let machine = machine_of(target)?;
        for (number, events) in strokes.into_iter().enumerate() {
            if number > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            self.machines.send_keys(actor, machine, events).await?;
        }
        Ok(Answer::completed())
    }
}
