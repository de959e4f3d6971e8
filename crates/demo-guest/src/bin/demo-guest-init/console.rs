//! The serial port: saying lines and serving commands. What is said also shows on the screen, if the
//! machine has one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use demo_guest::protocol::{Ending, MAXIMUM_LINE};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::counter::Counter;
use crate::heartbeat::Heartbeat;
use crate::{Failure, input};

const PORT: &str = "/dev/ttyS0";
const SCREEN: &str = "/dev/tty1";

/// The serial port.
pub struct Console {
    input: File,
    output: Mutex<Output>,
}

struct Output {
    port: File,
    screen: Option<File>,
}

impl Console {
    /// Opens the port for lines as they are: no echo, no translation.
    pub fn open() -> io::Result<Self> {
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(PORT)?;
        let mut attributes = tcgetattr(&port)?;
        attributes.make_raw();
        tcsetattr(&port, OptionalActions::Now, &attributes)?;
        let screen = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(SCREEN)
            .ok();
        Ok(Self {
            input: port.try_clone()?,
            output: Mutex::new(Output { port, screen }),
        })
    }

    /// Says one line, whole. A port that is gone is no reason to stop counting.
    pub fn say(&self, line: &str) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        drop(output.port.write_all(format!("{line}\n").as_bytes()));
        if let Some(screen) = &mut output.screen {
            drop(screen.write_all(format!("{line}\n").as_bytes()));
        }
    }
}

/// Carries out commands for as long as the port can be read.
pub fn serve(console: &Console, counter: &Counter) {
    let heartbeat = Heartbeat::default();
    let mut input = BufReader::new(&console.input);
    loop {
        match read_line(&mut input) {
            Ok(line) if line.is_empty() => {}
            Ok(line) => {
                let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
                match carry_out(console, counter, &heartbeat, verb, rest) {
                    Ok(detail) => console.say(format!("ok {verb} {detail}").trim_end()),
                    Err(error) => console.say(&format!("error {verb} {error}")),
                }
            }
            Err(error) => {
                console.say(&format!(
                    "rootvirt-guest warning: no more commands: {error}"
                ));
                return;
            }
        }
    }
}

fn carry_out(
    console: &Console,
    counter: &Counter,
    heartbeat: &Heartbeat,
    verb: &str,
    rest: &str,
) -> Result<String, Failure> {
    match verb {
        "hello" => console.say(&counter.ready()?.to_string()),
        "report" => console.say(&counter.report().to_string()),
        "rate" => counter.set_rate(rest.parse()?),
        "heartbeat" => heartbeat.switch(match rest {
            "on" => true,
            "off" => false,
            _ => return Err("takes on or off".into()),
        })?,
        "fill" => counter.load.fill(rest.parse()?)?,
        "dirty" => {
            let (rate, mib) = rest.split_once(' ').unwrap_or((rest, "0"));
            let rate = if rate == "max" {
                None
            } else {
                Some(rate.parse()?)
            };
            counter.load.dirty(rate, mib.parse()?)?;
        }
        "sh" => return shell(console, rest),
        "poweroff" => input::end(counter, console, Ending::PowerOff)?,
        "reboot" => input::end(counter, console, Ending::Reboot)?,
        _ => return Err("is no command of this guest".into()),
    }
    Ok(rest.to_owned())
}

fn shell(console: &Console, command: &str) -> Result<String, Failure> {
    let mut child = Command::new("/bin/busybox")
        .args(["sh", "-c", &format!("exec 2>&1; {command}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            console.say(&format!("sh| {}", String::from_utf8_lossy(&line?)));
        }
    }
    let status = child.wait()?;
    Ok(format!("exit={}", status.code().unwrap_or(-1)))
}

/// One line of at most [`MAXIMUM_LINE`] bytes; what is longer is cut there.
fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAXIMUM_LINE).unwrap_or(u64::MAX);
    if input.take(limit).read_until(b'\n', &mut bytes)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
