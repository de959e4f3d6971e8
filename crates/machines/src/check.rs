//! Compares what the catalog says with what is there: files, chains of layers, processes.

use crate::catalog::DurableState;
use crate::error::Error;
use crate::host::Host;
use crate::ids::MachineId;
use crate::manifest::Manifest;
use crate::opening::records_of;
use crate::orphans::orphans_of;
use crate::owner::images;
use crate::owner::record::{Record, layers_of};
use qemu::process::{ProcessError, RunState};
use std::sync::Arc;
use std::time::Duration;

/// How often, and after which time, what was found is looked at again.
const LOOKS_AGAIN: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(700);

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Of which machine.
    pub machine: MachineId,
    /// What, in a sentence.
    pub what: String,
}

/// Looks at everything. What is found only because something is just being done (a file whose deletion
/// follows the commit) is looked at again, and told only if it stays.
pub(crate) async fn check(host: &Arc<Host>) -> Result<Vec<Finding>, Error> {
    let mut findings = look(host).await?;
    for _ in 0..LOOKS_AGAIN {
        if findings.is_empty() {
            break;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let again = look(host).await?;
        findings.retain(|finding| again.contains(finding));
    }
    Ok(findings)
}

async fn look(host: &Arc<Host>) -> Result<Vec<Finding>, Error> {
    // An owner may wait for this, so it is not held while a machine's process is asked.
    let still = host.images.write().await;
    let mut contents = host.catalog.load().await?;
    let journal = std::mem::take(&mut contents.journal);
    let mut findings: Vec<_> = journal
        .iter()
        .map(|row| Finding {
            machine: row.machine,
            what: format!("The saga {} stands at {}.", row.saga, row.step),
        })
        .collect();
    let records = records_of(contents);
    let files: Vec<_> = records.iter().map(|r| files_of(host, r)).collect();
    drop(still);
    for (record, mut sentences) in records.into_iter().zip(files) {
        sentences.extend(chains_of(host, &record).await);
        sentences.extend(process_of(host, &record).await);
        findings.extend(sentences.into_iter().map(|what| Finding {
            machine: record.id,
            what,
        }));
    }
    Ok(findings)
}

/// Every file that is referred to is there, and no other.
fn files_of(host: &Host, record: &Record) -> Vec<String> {
    let places = host.places(record.id, &record.body.global);
    let mut found: Vec<_> = orphans_of(record, &places)
        .iter()
        // A memory image that is just being made shorter, or a remainder that the next start finds.
        .filter(|path| path.extension().is_none_or(|e| e != "flat"))
        .map(|path| format!("Nothing refers to {}.", path.display()))
        .collect();
    let layers = record.layers.values().map(|l| &l.path);
    for path in layers.chain(record.images.values().map(|i| &i.path)) {
        if !path.is_file() {
            found.push(format!("{} is missing.", path.display()));
        }
    }
    for image in record.images.values().filter(|i| i.path.is_file()) {
        match images::open_blocking(record, image) {
            Ok(opened) => found.extend(images::differences(image, &opened)),
            Err(cause) => found.push(cause.to_string()),
        }
    }
    for row in &record.snapshots {
        match Manifest::read(&row.dir) {
            Ok(there) if there == Manifest::of(record, row) => {}
            Ok(_) => found.push(format!("The manifest of {} is outdated.", row.snapshot.id)),
            Err(cause) => found.push(cause.to_string()),
        }
    }
    found
}

/// Every disk stands on layers that the catalog knows, in the order that their headers say.
async fn chains_of(host: &Host, record: &Record) -> Vec<String> {
    let mut found = Vec::new();
    let tops = layers_of(&record.settings).chain(record.snapshot_layers());
    for top in tops.collect::<std::collections::BTreeSet<_>>() {
        let known = record.chain(top);
        if known.is_empty() {
            found.push(format!("The layer {top} is not recorded."));
        }
        for pair in known.windows(2) {
            let [below, above] = pair else { continue };
            match host.img.info(&above.path, above.format).await {
                Ok(info) if info.backing.as_ref().is_some_and(|b| b.path == below.path) => {}
                Ok(info) => found.push(format!(
                    "{} lies on {:?}, not on {}.",
                    above.path.display(),
                    info.backing.map(|b| b.path),
                    below.path.display()
                )),
                Err(cause) => found.push(cause.to_string()),
            }
        }
        // A layer that QEMU has open looks unclean to others.
        if !matches!(
            record.body.state,
            DurableState::Running | DurableState::Paused
        ) {
            for layer in known
                .iter()
                .filter(|l| l.format == qemu::spec::Format::Qcow2)
            {
                if let Err(cause) = host.img.check(&layer.path, layer.format).await {
                    found.push(cause.to_string());
                }
            }
        }
    }
    found
}

/// The process is there if and only if it should be, runs if it should, and has the disks open
/// that the catalog says.
async fn process_of(host: &Host, record: &Record) -> Vec<String> {
    let run_dir = host.run_dir(record.id);
    let process = qemu::Process::look(&run_dir, record.id.0).await;
    let state = record.body.state;
    let should = matches!(state, DurableState::Running | DurableState::Paused);
    let process = match (process, should) {
        (Ok(process), true) => process,
        (Ok(process), false) => {
            return vec![format!(
                "The machine is {state:?}, but {} runs it.",
                process.pid()
            )];
        }
        (Err(ProcessError::NotRunning), false) => {
            let servers = qemu::Process::leftover_servers(&run_dir).into_iter();
            let sentence =
                |pid| format!("The machine is {state:?}, but {pid} serves a disk to it.");
            return servers.map(|s| sentence(s.pid)).collect();
        }
        (Err(cause), true) => return vec![format!("The machine is {state:?}, but: {cause}")],
        (Err(cause), false) => return vec![cause.to_string()],
    };
    let mut found = Vec::new();
    let wanted = match state {
        DurableState::Paused => RunState::Paused,
        _ => RunState::Running,
    };
    match process.status().await {
        Ok(status) if status == wanted => {}
        other => found.push(format!(
            "The machine is {state:?}, but QEMU says {other:?}."
        )),
    }
    match process.block_devices().await {
        Ok(devices) => {
            for top in layers_of(&record.settings) {
                let known: Vec<_> = record.chain(top).iter().map(|l| &l.path).collect();
                if !record.is_open_in(&devices, top) {
                    found.push(format!("QEMU does not have the chain {known:?} open."));
                }
            }
        }
        Err(cause) => found.push(cause.to_string()),
    }
    found
}
