//! `cargo xtask soak`: the long forms of campaigns whose short forms are among the tests.

use crate::setup::{self, Need};
use crate::{Outcome, WrongUsage, guest, process, test};

pub const USAGE: &str = "soak [kills|deaths|flips|lockstep|logons] [--rounds N]\n      \
    kills: kills the service at every step of the snapshot verbs, and at any time, N times over (4)\n      \
    deaths: kills the service, QEMU, or both N times (500) at random times of every snapshot verb\n      \
    flips: flips N single bits (1000) of manifests, memory images and layers; all must be found\n      \
    lockstep: goes every way back to a running guest N times (50): memory and disks are of one instant\n      \
    logons: logs on N times (1000) over DCOM with ten queries each; memory and tables must not grow";

/// A campaign with a long form.
#[derive(Debug, PartialEq)]
struct Campaign {
    name: &'static str,
    /// The test that does it: of `campaigns`, or a file of `tests/python`.
    test: &'static str,
    /// The variable that tells it how often.
    variable: &'static str,
    /// How often, if it is not said.
    usual: u32,
}

const CAMPAIGNS: [Campaign; 5] = [
    Campaign {
        name: "kills",
        test: "kills::killed_at_every_step_for_long",
        variable: "ROOTVIRT_SOAK_ROUNDS",
        // A round is some 80 kills.
        usual: 4,
    },
    Campaign {
        name: "deaths",
        test: "deaths::killed_at_random_times_for_long",
        variable: "ROOTVIRT_SOAK_KILLS",
        usual: 500,
    },
    Campaign {
        name: "flips",
        test: "flips::a_thousand_flipped_bits_are_found",
        variable: "ROOTVIRT_SOAK_FLIPS",
        usual: 1000,
    },
    Campaign {
        name: "lockstep",
        test: "lockstep::every_way_back_is_to_one_instant_for_long",
        variable: "ROOTVIRT_SOAK_LOCKSTEP",
        usual: 50,
    },
    Campaign {
        name: "logons",
        test: "test_dcom_load.py",
        variable: "ROOTVIRT_SOAK_LOGONS",
        usual: 1000,
    },
];

pub fn run(arguments: &[String]) -> Outcome {
    let (campaign, rounds) = parse(arguments)?;
    let rounds = rounds.to_string();
    if campaign.test.ends_with(".py") {
        let variables = [(campaign.variable, rounds.as_str())];
        return test::run_python_file(campaign.test, &variables);
    }
    setup::ensure(&[Need::Qemu])?;
    let boot_image = guest::boot_image()?;
    process::shown(
        process::cargo()
            .args(["test", "--locked", "--package", "rootvirt"])
            .args(["--test", "campaigns", "--", "--ignored", "--exact"])
            .args([campaign.test, "--nocapture"])
            .env("ROOTVIRT_TEST_GUEST", boot_image)
            .env(campaign.variable, rounds),
    )?;
    Ok(())
}

fn parse(arguments: &[String]) -> Result<(&'static Campaign, u32), WrongUsage> {
    let [mut chosen, ..] = CAMPAIGNS.each_ref();
    let mut rounds = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if let Some(campaign) = CAMPAIGNS.iter().find(|c| c.name == argument) {
            chosen = campaign;
        } else if argument == "--rounds" {
            let number = arguments.next().and_then(|text| text.parse().ok());
            rounds = Some(
                number
                    .filter(|rounds| *rounds > 0)
                    .ok_or_else(|| WrongUsage("--rounds needs a number".into()))?,
            );
        } else {
            return Err(WrongUsage(format!("soak takes no {argument}")));
        }
    }
    Ok((chosen, rounds.unwrap_or(chosen.usual)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn rounds_are_a_number_above_zero() {
        let parse = |text: &str| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            let (campaign, rounds) = parse(&words).ok()?;
            Some((campaign.name, rounds))
        };
        assert_eq!(parse(""), Some(("kills", 4)));
        assert_eq!(parse("kills --rounds 7"), Some(("kills", 7)));
        assert_eq!(parse("deaths"), Some(("deaths", 500)));
        assert_eq!(parse("flips"), Some(("flips", 1000)));
        assert_eq!(parse("lockstep"), Some(("lockstep", 50)));
        assert_eq!(parse("logons --rounds 9"), Some(("logons", 9)));
        for wrong in ["--rounds", "--rounds 0", "--rounds x", "flops"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
