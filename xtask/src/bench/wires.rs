//! `cargo xtask bench wires`: how fast the same questions are answered over each wire, and what an
//! answer costs the service. What is asked is in [`session`], how in [`load`].
//!
//! The clients share the processors with the service, so they are built for release, too: a debug
//! build of this program builds itself once more, and lets that one measure.

mod load;
mod session;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use load::Turn;
use serde::Serialize;
use session::Subject;

use super::client::Level;
use super::host;
use super::service::{Service, machine_name};
use crate::setup::{self, Need};
use crate::{Failure, Outcome, WrongUsage, process};

pub const NAME: &str = "wires";
/// Numbers of connections.
const CONNECTIONS: [usize; 2] = [1, 16];
/// The service checks a password again when it was checked so long ago; a turn ends before that.
const LONGEST_TURN: u64 = 10;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Query,
    Get,
    Invoke,
}

const OPERATIONS: [Operation; 3] = [Operation::Query, Operation::Get, Operation::Invoke];

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Query => "query",
            Operation::Get => "get",
            Operation::Invoke => "invoke",
        }
    }
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    CimXml,
    WsMan,
    Dcom(Level),
}

const WIRES: [Wire; 4] = [
    Wire::CimXml,
    Wire::WsMan,
    Wire::Dcom(Level::Integrity),
    Wire::Dcom(Level::Privacy),
];

impl Wire {
    fn name(self) -> &'static str {
        match self {
            Wire::CimXml => "CIM-XML",
            Wire::WsMan => "WS-Man",
            Wire::Dcom(Level::Privacy) => "DCOM, encrypted",
            Wire::Dcom(_) => "DCOM, signed",
        }
    }
}

/// What is measured with which wire, and all its turns.
struct Cell {
    operation: Operation,
    connections: usize,
    wire: Wire,
    turns: Vec<Turn>,
}

/// What a cell came to: its middle turn, by calls a second.
#[derive(Debug, Serialize)]
struct Row {
    operation: Operation,
    connections: usize,
    wire: &'static str,
    calls_a_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    service_us: f64,
    client_us: f64,
    /// Calls a second of each turn.
    each: Vec<f64>,
}

#[derive(Debug, PartialEq)]
struct Request {
    machines: usize,
    seconds: u64,
    rounds: usize,
    json: bool,
    program: Option<PathBuf>,
}

pub fn run(arguments: &[String]) -> Outcome {
    let request = parse(arguments)?;
    let program = match request.program {
        Some(ref program) => program.clone(),
        None => super::build_program()?,
    };
    if cfg!(debug_assertions) {
        let client = super::build_for_release("xtask")?;
        let mut command = Command::new(client);
        command.args(["bench", NAME]).args(arguments);
        if request.program.is_none() {
            command.arg("--program").arg(program);
        }
        return Ok(process::shown(&mut command)?);
    }
    setup::ensure(&[Need::Qemu])?;
    let folder = tempfile::Builder::new()
        .prefix("rootvirt-bench-")
        .tempdir_in("/var/tmp")?;
    let service = Service::start(&program, folder.path())?;
    service.define(request.machines)?;
    let subject = Subject::find(&service, &machine_name(request.machines / 2))?;
    let before = host::load_average()?;
    let cells = measure(&service, &subject, &request)?;
    let after = host::load_average()?;
    eprintln!("load average: {before} before, {after} after, the benchmark's own work included");
    let rows: Vec<_> = cells.into_iter().filter_map(row).collect();
    println!("{}", table(&rows));
    if request.json {
        println!("{}", serde_json::to_string(&rows)?);
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Request, WrongUsage> {
    let mut request = Request {
        machines: 100,
        seconds: 3,
        rounds: 3,
        json: false,
        program: None,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = |most: usize| {
            let number = arguments.next().and_then(|text| text.parse().ok());
            number
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| WrongUsage(format!("{argument} needs a number from 1 to {most}")))
        };
        match argument.as_str() {
            "--json" => request.json = true,
            "--machines" => request.machines = number(100_000)?,
            "--rounds" => request.rounds = number(100)?,
            "--seconds" => {
                let most = usize::try_from(LONGEST_TURN).unwrap_or(usize::MAX);
                request.seconds = u64::try_from(number(most)?).unwrap_or(LONGEST_TURN);
            }
            "--program" => {
                let program = arguments.next().map(PathBuf::from);
                let missing = || WrongUsage("--program needs a file".to_owned());
                request.program = Some(program.ok_or_else(missing)?);
            }
            other => return Err(WrongUsage(format!("bench wires knows no {other}"))),
        }
    }
    Ok(request)
}

/// All wires take their turns one after another in each round.
fn measure(service: &Service, subject: &Subject, request: &Request) -> Result<Vec<Cell>, Failure> {
    let mut cells = Vec::new();
    for operation in OPERATIONS {
        for connections in CONNECTIONS {
            cells.extend(WIRES.map(|wire| Cell {
                operation,
                connections,
                wire,
                turns: Vec::new(),
            }));
        }
    }
    let time = Duration::from_secs(request.seconds);
    for round in 1..=request.rounds {
        eprintln!("round {round} of {}", request.rounds);
        for cell in &mut cells {
            let open = |_| session::open(service, cell.wire, subject);
            let sessions = (0..cell.connections).map(open);
            let sessions = sessions.collect::<Result<_, _>>()?;
            let turn = load::run(sessions, cell.operation, subject, time, service.id());
            cell.turns.push(turn.map_err(|error| {
                let (wire, operation) = (cell.wire.name(), cell.operation.name());
                format!("{wire}, {operation}: {error}")
            })?);
        }
    }
    Ok(cells)
}

fn row(cell: Cell) -> Option<Row> {
    let each = cell.turns.iter().map(|turn| turn.calls_a_second).collect();
    let mut turns = cell.turns;
    turns.sort_by(|a, b| a.calls_a_second.total_cmp(&b.calls_a_second));
    // Of an even number, the worse of the two in the middle.
    let middle = turns.get(turns.len().saturating_sub(1) / 2)?;
    Some(Row {
        operation: cell.operation,
        connections: cell.connections,
        wire: cell.wire.name(),
        calls_a_second: middle.calls_a_second,
        p50_ms: middle.p50.as_secs_f64() * 1e3,
        p99_ms: middle.p99.as_secs_f64() * 1e3,
        service_us: middle.service.as_secs_f64() * 1e6,
        client_us: middle.client.as_secs_f64() * 1e6,
        each,
    })
}

fn table(rows: &[Row]) -> String {
    let mut text =
        "| | connections | | calls a second | p50, ms | p99, ms | the service's processor time \
                    for a call, us | the client's, us |\n|---|---|---|---|---|---|---|---|"
            .to_owned();
    for row in rows {
        text += &format!(
            "\n| {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} |",
            row.operation.name(),
            row.connections,
            row.wire,
            row.calls_a_second,
            row.p50_ms,
            row.p99_ms,
            row.service_us,
            row.client_us,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_turn_is_shown_and_the_others_are_kept() {
        let turn = |calls_a_second: f64, p50: u64| Turn {
            calls_a_second,
            p50: Duration::from_millis(p50),
            p99: Duration::from_millis(9),
            service: Duration::from_micros(80),
            client: Duration::from_micros(20),
        };
        let row = row(Cell {
            operation: Operation::Get,
            connections: 16,
            wire: Wire::CimXml,
            turns: vec![turn(300.0, 1), turn(100.0, 3), turn(200.0, 2)],
        });
        let row = row.expect("a row");
        assert_eq!(row.each, [300.0, 100.0, 200.0]);
        let last = "| get | 16 | CIM-XML | 200 | 2.00 | 9.00 | 80 | 20 |";
        assert_eq!(table(&[row]).lines().last(), Some(last));
    }

    #[test]
    fn a_turn_ends_before_passwords_are_checked_again() {
        let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let request = parse(&arguments("--seconds 10 --rounds 5 --program x")).expect("a request");
        assert_eq!((request.seconds, request.rounds), (10, 5));
        assert!(parse(&arguments("--seconds 11")).is_err());
        assert!(parse(&arguments("--rounds 0")).is_err());
    }
}
