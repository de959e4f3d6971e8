//! `cargo xtask soak`: the long forms of campaigns whose short forms are among the tests.

use crate::setup::{self, Need};
use crate::{Outcome, WrongUsage, guest, process};

pub const USAGE: &str = "soak [kills] [--rounds N]\n      \
    kills the service at every step of the snapshot verbs, and at any time, N times over (4)";

/// The test that does it, and the variable that tells it how often.
const KILLS: &str = "kills::killed_at_every_step_for_long";
const ROUNDS_VARIABLE: &str = "ROOTVIRT_SOAK_ROUNDS";
/// A round is some 80 kills.
const ROUNDS: u32 = 4;

pub fn run(arguments: &[String]) -> Outcome {
    let rounds = rounds_of(arguments)?;
    setup::ensure(&[Need::Qemu])?;
    let boot_image = guest::boot_image()?;
    process::shown(
        process::cargo()
            .args(["test", "--locked", "--package", "rootvirt"])
            .args(["--test", "campaigns", "--", "--ignored", "--exact", KILLS])
            .arg("--nocapture")
            .env("ROOTVIRT_TEST_GUEST", boot_image)
            .env(ROUNDS_VARIABLE, rounds.to_string()),
    )?;
    Ok(())
}

fn rounds_of(arguments: &[String]) -> Result<u32, WrongUsage> {
    let mut rounds = ROUNDS;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "kills" => {}
            "--rounds" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                rounds = number
                    .filter(|rounds| *rounds > 0)
                    .ok_or_else(|| WrongUsage("--rounds needs a number".into()))?;
            }
            other => return Err(WrongUsage(format!("soak takes no {other}"))),
        }
    }
    Ok(rounds)
}

#[cfg(test)]
mod tests {
    use super::{ROUNDS, rounds_of};

    #[test]
    fn rounds_are_a_number_above_zero() {
        let parse = |text: &str| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            rounds_of(&words).ok()
        };
        assert_eq!(parse(""), Some(ROUNDS));
        assert_eq!(parse("kills --rounds 7"), Some(7));
        for wrong in ["--rounds", "--rounds 0", "--rounds x", "flips"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
