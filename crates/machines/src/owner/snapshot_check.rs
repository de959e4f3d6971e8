//! The check before a snapshot: everything that would be refused, all at once, and what it would
//! need and cost. The refusals are those of `snapshot_create`, which uses the same parts.

use super::record::layers_of;
use super::snapshot_create::{
    check_capturable, check_chains, check_layers, check_room, check_runs, memory_needed_mib,
};
use super::transitions::{Verb, check};
use super::work::Work;
use crate::catalog::DurableState;
use crate::error::Error;
use crate::files;
use crate::forecast::{Forecast, Measurement, Space, expect};
use crate::model::{Snapshot, State};
use std::path::Path;

/// Chains longer than this read slower; removing snapshots makes them shorter.
const LONG_CHAIN: usize = 16;
/// What a new layer takes before anything is written to it.
const EMPTY_LAYER: u64 = 256 << 10;

/// Looks at everything; changes nothing.
pub(super) async fn forecast(work: &Work) -> Result<Forecast, Error> {
    let record = &work.record;
    let state = State::from(record.body.state);
    let with_memory = record.body.state == DurableState::Running;
    let ram_mib = record.settings.memory.quantity_mib;
    let process = record.body.process.as_ref();
    let measurements = work.host.reports.measurements();
    let resident = match (&work.guest, with_memory) {
        (Some(guest), true) => guest.process.resident_bytes(),
        _ => None,
    };
    let expected = expect(
        &measurements,
        record.id,
        ram_mib,
        process.map_or("", |p| p.memory_backing.0.as_str()),
        work.host.accelerator.0.as_str(),
        resident,
    );
    let tops: Vec<_> = layers_of(&record.settings).collect();
    let chain_depth = tops.iter().map(|top| record.chain(*top).len()).max();
    let memory_bytes = if with_memory {
        expected.memory_bytes
    } else {
        0
    };
    let mut forecast = Forecast {
        state,
        with_memory,
        refusals: Vec::new(),
        warnings: Vec::new(),
        space: space(work, memory_bytes, tops.len() as u64)?,
        host_memory_mib: (memory_needed_mib(work), files::host_memory_mib().1),
        backing: process.map(|p| p.memory_backing.clone()),
        chain_depth: chain_depth.unwrap_or(0),
        expected,
    };
    if let Err(cause) = check(state, Verb::CreateSnapshot) {
        forecast.refuse(&cause);
    }
    let looked = [
        check_runs(work).await,
        check_room(work),
        check_layers(work).await,
        check_chains(work).await,
        check_capturable(work).await,
    ];
    for cause in looked.iter().filter_map(|outcome| outcome.as_ref().err()) {
        forecast.refuse(cause);
    }
    warn(work, &mut forecast);
    Ok(forecast)
}

/// What is needed and there, each file system once.
fn space(work: &Work, memory: u64, disks: u64) -> Result<Vec<Space>, Error> {
    let places = work.places();
    let overlays = disks.saturating_mul(EMPTY_LAYER);
    let mut all: Vec<(u64, Space)> = Vec::new();
    for (path, needed, expected) in [
        (
            places.snapshots().to_owned(),
            super::snapshot_create::room_for_memory(work),
            memory,
        ),
        (places.disks(), super::snapshot_create::SLACK, overlays),
    ] {
        let there = files::free_space(&path)?;
        let device = device_of(&path);
        match all.iter_mut().find(|(of, _)| *of == device) {
            Some((_, space)) => {
                space.needed = space.needed.max(needed);
                space.expected = space.expected.saturating_add(expected);
            }
            None => all.push((
                device,
                Space {
                    path,
                    needed,
                    expected,
                    there,
                },
            )),
        }
    }
    Ok(all.into_iter().map(|(_, space)| space).collect())
}

/// The file system of a path, or of its nearest parent that is there.
fn device_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let found = path.ancestors().find_map(|p| std::fs::metadata(p).ok());
    found.map_or(0, |m| m.dev())
}

fn warn(work: &Work, forecast: &mut Forecast) {
    let mut warnings = Vec::new();
    if let Some((backing, reason)) = &forecast.backing
        && forecast.with_memory
        && backing != qemu::spec::Backing::Hugetlb.as_str()
    {
        warnings.push(format!(
            "The guest's memory is not on the host's pool of huge pages ({reason}); the pause is \
             longer than it could be."
        ));
    }
    if forecast.chain_depth >= LONG_CHAIN {
        warnings.push(format!(
            "A disk of the virtual machine stands on {} layers; reading gets slower with each. \
             Remove snapshots that are not needed.",
            forecast.chain_depth
        ));
    }
    if forecast.with_memory {
        warnings.push(
            "No agent in the guest is told: its file systems are not flushed first. The snapshot \
             holds memory and disks of one instant, so nothing is lost when it is applied."
                .into(),
        );
        if work.host.accelerator.0 == qemu::spec::Accelerator::Tcg {
            warnings.push(
                "The guest runs without hardware virtualization; everything takes longer.".into(),
            );
        }
    }
    if forecast.expected.samples < 3 && forecast.with_memory {
        warnings.push(format!(
            "The expected times rest on {} earlier snapshots, too few to rely on.",
            forecast.expected.samples
        ));
    }
    forecast.warnings = warnings;
}

/// What a snapshot that was just taken cost; nothing, without memory of its own.
pub(super) fn measurement(work: &Work, snapshot: &Snapshot) -> Option<Measurement> {
    let process = work.record.body.process.as_ref()?;
    let pause = snapshot.pause?;
    let micros = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    Some(Measurement {
        at: snapshot.taken,
        machine: work.record.id,
        ram_mib: snapshot.settings.memory.quantity_mib,
        backing: process.memory_backing.0.clone(),
        accelerator: process.accelerator.0.clone(),
        stored_bytes: snapshot.stored_bytes,
        pause_micros: micros(pause),
        durable_micros: micros(snapshot.durable),
    })
}
