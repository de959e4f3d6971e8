//! QEMU's own snapshots, by the QMP commands `snapshot-save` and `snapshot-load`, of a QEMU that
//! nobody but us controls.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::{Accelerator, Contender, Daemon, Limit, MACHINE_TYPE, emulator};
use crate::bench::guest::Guest;
use crate::bench::monitor::Monitor;
use crate::{Failure, Outcome};

pub const NAME: &str = "qmp";

/// Nodes of the guest's disks.
const NODES: [&str; 2] = ["boot", "data"];

/// The process, and a monitor to command it by.
#[derive(Default)]
pub struct Qmp {
    control: Option<Monitor>,
    process: Option<Daemon>,
}

impl Qmp {
    fn control(&mut self) -> Result<&mut Monitor, Failure> {
        Ok(self.control.as_mut().ok_or("QEMU was not started")?)
    }

    fn job(&mut self, command: &str, number: usize, memory: bool) -> Outcome {
        let mut arguments = json!({ "tag": format!("s{number}"), "devices": NODES });
        if let (true, Some(arguments)) = (memory, arguments.as_object_mut()) {
            arguments.insert("vmstate".into(), json!(NODES[0]));
        }
        self.control()?
            .run_job(command, &format!("{command}-{number}"), arguments)
    }
}

impl Contender for Qmp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&mut self, guest: &Guest) -> Outcome {
        let control = guest.folder.join("control");
        let (accelerator, processor) = match guest.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg", "qemu64"),
        };
        let mut command = Command::new(emulator()?);
        command
            .args(["-nodefaults", "-display", "none", "-vga", "std"])
            .args(["-machine", MACHINE_TYPE, "-accel", accelerator])
            .args(["-cpu", processor, "-smp", "1", "-m"])
            .arg(format!("{}M", guest.ram_mib));
        for (node, file) in NODES.iter().zip([guest.boot_disk(), guest.data_disk()]) {
            let node_of_file = json!({ "driver": "file", "filename": file });
            let drive = json!({ "driver": "qcow2", "node-name": node, "file": node_of_file });
            command.arg("-blockdev").arg(drive.to_string());
        }
        for (unit, node) in NODES.iter().enumerate() {
            let device = format!("ide-hd,bus=ide.0,unit={unit},drive={node}");
            command.args(["-device", &device]);
        }
        let listening =
            |path: &std::path::Path| format!("unix:{},server=on,wait=off", path.display());
        let process = command
            .args(["-serial", &listening(&guest.serial())])
            .args(["-qmp", &listening(&control)])
            .args(guest.instruments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        self.process = Some(Daemon(process));
        self.control = Some(Monitor::connect(&control)?);
        Ok(())
    }

    fn snapshot(&mut self, number: usize, _limit: &Limit) -> Outcome {
        self.job("snapshot-save", number, true)
    }

    fn end_guest(&mut self) -> Outcome {
        self.control()?.execute("stop", json!({})).map(drop)
    }

    fn restore(&mut self, number: usize, _limit: &Limit) -> Result<Instant, Failure> {
        let began = Instant::now();
        self.job("snapshot-load", number, true)?;
        self.control()?.execute("cont", json!({}))?;
        Ok(began)
    }

    fn delete(&mut self, number: usize, _limit: &Limit) -> Outcome {
        self.job("snapshot-delete", number, false)
    }

    fn discard(&mut self) -> Outcome {
        self.control = None;
        self.process = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_done_without_a_process() {
        let error = Qmp::default().end_guest().expect_err("refused");
        assert!(error.to_string().contains("not started"));
    }
}
