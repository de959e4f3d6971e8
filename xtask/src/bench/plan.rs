//! What is asked for on the command line, and what the measuring part is told of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::contender;
use super::guest::Dirtying;
use crate::WrongUsage;

pub const USAGE: &str = "bench [snapshot] [--full] [--ram SIZE,...] [--load LOAD,...] [--only NAME,...]\n            \
    [--rounds N] [--snapshots N] [--json] [--write-docs] [--program FILE]\n            \
    [--huge-pages auto|off|MIB] [--warm-up MIB] [--from FILE]...\n      \
    compares live snapshots, saving and restoring with libvirt's and QEMU's own\n      \
    SIZE is like 4G or 512M; LOAD is idle, unlimited or MiB/s; --json ends with one line of JSON;\n      \
    --full takes hours; --from shows (and --write-docs writes down) an earlier run\n  \
    bench enumerations [--machines N] [--json]\n      \
    how fast many machines are enumerated, over CIM-XML and WS-Management\n  \
    bench wires [--machines N] [--seconds N] [--rounds N] [--json] [--program FILE]\n      \
    how fast queries, gets and method calls are answered, over each wire";

const DEFAULT_ROUNDS: usize = 3;
const FULL_ROUNDS: usize = 5;
/// Of this program, in a row: later ones must be as good as the first.
const DEFAULT_SNAPSHOTS: usize = 10;
const DEFAULT_RAM_MIB: u64 = 4096;
const DEFAULT_LOAD: Dirtying = Dirtying::Rate(20);
const FULL_RAM_MIB: [u64; 3] = [1024, 4096, 8192];
const FULL_LOADS: [Dirtying; 3] = [Dirtying::Idle, DEFAULT_LOAD, Dirtying::Unlimited];
/// Below that the guest has no room for its load.
const LEAST_RAM_MIB: u64 = 256;

/// What to measure, as the isolated part is told it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Plan {
    /// A folder for everything the run makes; its path is short enough for Unix sockets in it.
    pub scratch: PathBuf,
    /// Where the results go.
    pub record: PathBuf,
    /// The program `rootvirt`, built for release.
    pub program: PathBuf,
    /// The demo guest's boot disk, never written to.
    pub boot_disk: PathBuf,
    pub rams_mib: Vec<u64>,
    pub loads: Vec<Dirtying>,
    /// Who takes part, by name.
    pub contenders: Vec<String>,
    /// How many snapshots each peer takes of its guest, and how often every guest is restored.
    pub rounds: usize,
    /// How many snapshots this program takes of its guest.
    pub snapshots: usize,
    /// How much memory of the host to touch beforehand; none: as much as the guests may need.
    pub warm_up_mib: Option<u64>,
    /// The service's `--huge-pages-limit`; none: its default.
    pub huge_pages: Option<String>,
}

/// All that the command line says.
#[derive(Debug, Default)]
pub struct Request {
    pub plan: Plan,
    pub json: bool,
    pub write_docs: bool,
    /// Instead of building it.
    pub program: Option<PathBuf>,
    /// Records of earlier runs, instead of measuring.
    pub from: Vec<PathBuf>,
}

pub fn parse(arguments: &[String]) -> Result<Request, WrongUsage> {
    let mut request = Request::default();
    let plan = &mut request.plan;
    let mut full = false;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| WrongUsage(format!("{argument} needs a value")))
        };
        match argument.as_str() {
            "snapshot" => {}
            "--full" => full = true,
            "--json" => request.json = true,
            "--write-docs" => request.write_docs = true,
            "--program" => request.program = Some(value()?.into()),
            "--from" => request.from.push(value()?.into()),
            "--ram" => plan.rams_mib = list(argument, value()?, "sizes of 256M or more", size)?,
            "--load" => {
                let meaning = "idle, unlimited or MiB/s";
                plan.loads = list(argument, value()?, meaning, Dirtying::parse)?;
            }
            "--only" => {
                let names = contender::NAMES.join(", ");
                let known = |name: &str| contender::NAMES.contains(&name).then(|| name.to_owned());
                plan.contenders = list(argument, value()?, &names, known)?;
            }
            "--rounds" => plan.rounds = number(argument, value()?, 1)?,
            "--snapshots" => plan.snapshots = number(argument, value()?, 1)?,
            "--warm-up" => plan.warm_up_mib = Some(number(argument, value()?, 0)?),
            "--huge-pages" => plan.huge_pages = Some(value()?.clone()),
            other => return Err(WrongUsage(format!("bench takes no {other}"))),
        }
    }
    fill_in(plan, full);
    Ok(request)
}

/// What was not asked for.
fn fill_in(plan: &mut Plan, full: bool) {
    if plan.rams_mib.is_empty() {
        let rams: &[u64] = if full {
            &FULL_RAM_MIB
        } else {
            &[DEFAULT_RAM_MIB]
        };
        plan.rams_mib = rams.to_vec();
    }
    if plan.loads.is_empty() {
        let loads: &[Dirtying] = if full { &FULL_LOADS } else { &[DEFAULT_LOAD] };
        plan.loads = loads.to_vec();
    }
    if plan.contenders.is_empty() {
        let usual = |name: &&&str| full || contender::is_usual(name);
        plan.contenders = contender::NAMES
            .iter()
            .filter(usual)
            .map(|&name| name.into())
            .collect();
    }
    if plan.rounds == 0 {
        plan.rounds = if full { FULL_ROUNDS } else { DEFAULT_ROUNDS };
    }
    if plan.snapshots == 0 {
        plan.snapshots = DEFAULT_SNAPSHOTS;
    }
}

fn list<T>(
    argument: &str,
    value: &str,
    meaning: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, WrongUsage> {
    let items: Option<Vec<T>> = value.split(',').map(|item| parse(item.trim())).collect();
    items.ok_or_else(|| {
        WrongUsage(format!(
            "{argument} takes, separated by commas: {meaning}; not '{value}'"
        ))
    })
}

/// In MiB; a number alone is MiB, too.
fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let mib = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (mib >= LEAST_RAM_MIB).then_some(mib)
}

fn number<T>(argument: &str, value: &str, least: T) -> Result<T, WrongUsage>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    value
        .parse()
        .ok()
        .filter(|number| *number >= least)
        .ok_or_else(|| WrongUsage(format!("{argument} takes a number, {least} or more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Request, String> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(&arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_are_taken_or_refused_by_name() {
        let request = parsed(
            "snapshot --rounds 5 --ram 512M,8G,300 --load idle,40 --json --only rootvirt,qmp",
        );
        let Request { plan, json, .. } = request.expect("valid");
        assert_eq!(
            (plan.rounds, plan.snapshots, json),
            (5, DEFAULT_SNAPSHOTS, true)
        );
        assert_eq!(plan.rams_mib, [512, 8192, 300]);
        assert_eq!(plan.loads, [Dirtying::Idle, Dirtying::Rate(40)]);
        assert_eq!(plan.contenders, ["rootvirt", "qmp"]);
        for wrong in [
            "--rounds",
            "--rounds 0",
            "--ram 64M",
            "--ram much",
            "--load much",
            "--only nobody",
            "restore",
        ] {
            let refusal = parsed(wrong).expect_err("refused");
            assert!(
                refusal.contains(wrong.split(' ').next().unwrap_or("-")),
                "{refusal}"
            );
        }
    }

    #[test]
    fn without_arguments_the_case_of_the_bars_is_measured_and_full_is_the_whole_table() {
        let plan = parsed("").expect("valid").plan;
        assert_eq!(
            (plan.rams_mib, plan.loads),
            (vec![4096], vec![DEFAULT_LOAD])
        );
        assert_eq!(plan.contenders.len(), contender::NAMES.len() - 1);
        let plan = parsed("--full --ram 1G").expect("valid").plan;
        assert_eq!(
            (plan.rams_mib.len(), plan.loads.len(), plan.rounds),
            (1, 3, 5)
        );
    }
}
