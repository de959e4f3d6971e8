//! Which layers of a machine's disks become one next.
//!
//! - A run of layers that nothing refers to goes together with the layer above it: into the active
//!   layer while the guest runs, into the lowest of the run otherwise. A disk given by a client is
//!   written to only while the machine is off, and only if nothing else needs it as it is.
//! - A chain that has grown long because snapshots need all of it is skipped: the active layer
//!   takes a copy of what lies in the newer frozen layers, and stands on an older one from then on.
//!   This costs the space of the copy. Where to cut is chosen so that copying stays small beside
//!   what the guest wrote: where the fewest bytes are copied for each layer that is skipped.

use super::record::Record;
use crate::catalog::Layer;
use crate::ids::LayerId;
use crate::saga::{MergeKind, MergePlan};

/// Files in an active chain beyond which it is shortened.
const LONG: usize = 12;
/// Files in an active chain beyond which no layer is added before it has been shortened. One more
/// is added when a snapshot at its end is applied.
pub(crate) const LONGEST: usize = 15;
/// The oldest files of a chain, which are never skipped, and the fewest that are skipped at once.
const KEPT: usize = 4;
const FEWEST_SKIPPED: usize = 4;

/// The next merge that makes a chain shorter, if there is one.
pub(crate) fn next(record: &Record, running: bool) -> Option<MergePlan> {
    next_run(record, running).or_else(|| longest(record, LONG))
}

/// The merge that must come before another layer is added, if there is one.
pub(crate) fn urgent(record: &Record) -> Option<MergePlan> {
    longest(record, LONGEST)
}

fn longest(record: &Record, most: usize) -> Option<MergePlan> {
    let active = record.active_layers().into_iter();
    let long = active.map(|top| (record.chain(top), top));
    let long = long.filter(|(chain, _)| chain.len() > most);
    let (chain, upper) = long.max_by_key(|(chain, _)| chain.len())?;
    Some(MergePlan {
        kind: MergeKind::Skip,
        lower: chain.get(KEPT)?.id,
        upper,
    })
}

/// The place in a chain on which its active layer is to stand, by the bytes of the frozen layers,
/// oldest first.
pub(crate) fn new_base(bytes: &[u64]) -> usize {
    let last = bytes.len().saturating_sub(1);
    let places = KEPT.saturating_sub(1)..=last.saturating_sub(FEWEST_SKIPPED);
    let cost = |place: usize| {
        let skipped = bytes.get(place + 1..).unwrap_or_default();
        let copied: u64 = skipped.iter().fold(0, |sum, b| sum.saturating_add(*b));
        copied / u64::try_from(skipped.len()).unwrap_or(1).max(1)
    };
    places
        .min_by_key(|place| cost(*place))
        .unwrap_or(KEPT.saturating_sub(1))
}

fn next_run(record: &Record, running: bool) -> Option<MergePlan> {
    let active = record.active_layers();
    // The chains that are written first: they are what the guest waits for.
    let frozen = record.layers.keys().filter(|id| !active.contains(id));
    active
        .iter()
        .chain(frozen)
        .find_map(|upper| run_below(record, *upper, running))
}

/// The run of layers that nothing refers to right below `upper`, if `upper` ends it.
fn run_below(record: &Record, upper: LayerId, running: bool) -> Option<MergePlan> {
    let top = record.layers.get(&upper).filter(|layer| layer.ours)?;
    let is_active = record.active_layers().contains(&upper);
    let above = children(record, upper);
    let ends = match is_active {
        // A detached disk or a snapshot of this very layer would lose what it stands on.
        true => above.is_empty() && !record.snapshot_layers().contains(&upper),
        false => !is_free(record, upper) || above.len() != 1,
    };
    if !ends {
        return None;
    }
    let mut lower = None;
    let mut at = top;
    while let Some(below) = at.parent.and_then(|id| record.layers.get(&id)) {
        let into_a_clients = !below.ours || below.parent.is_none();
        let alone = matches!(children(record, below.id).as_slice(), [one] if *one == at.id);
        if !alone || !is_free(record, below.id) || (into_a_clients && (running || !is_active)) {
            break;
        }
        lower = Some(below.id);
        at = below;
    }
    let kind = match (is_active, running) {
        (true, true) => MergeKind::PullUp,
        (true, false) => MergeKind::ActiveDown,
        (false, _) => MergeKind::FrozenDown,
    };
    lower.map(|lower| MergePlan { kind, lower, upper })
}

fn is_free(record: &Record, id: LayerId) -> bool {
    let snapshots = record.snapshots.iter();
    let referred = snapshots
        .flat_map(|row| super::record::layers_of(&row.snapshot.settings))
        .chain(super::record::layers_of(&record.settings))
        .chain(record.body.detached.iter().copied());
    referred.into_iter().all(|other| other != id)
}

fn children(record: &Record, id: LayerId) -> Vec<LayerId> {
    let layers = record.layers.values();
    let above = layers.filter(|l: &&Layer| l.parent == Some(id));
    above.map(|l| l.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_one_size_are_all_skipped_but_the_oldest() {
        assert_eq!(new_base(&[7; 12]), KEPT - 1);
    }

    #[test]
    fn a_large_layer_is_not_copied_for_a_few_small_ones() {
        let mut bytes = [1; 12];
        bytes[4] = 100;
        assert_eq!(new_base(&bytes), 4);
        // But as soon as nothing else makes the chain short enough.
        bytes[4] = 1;
        bytes[9] = 100;
        assert_eq!(new_base(&bytes), KEPT - 1);
    }

    #[test]
    fn copying_stays_small_beside_what_is_written() {
        let (mut copied, mut written) = (0, 0);
        let mut chain = vec![1u64];
        // As many snapshots as a machine may have, one unit written after each, always elsewhere.
        for _ in 0..100 {
            chain.push(1);
            written += 1;
            if chain.len() > LONG {
                let active = chain.pop().unwrap();
                let base = new_base(&chain);
                let skipped: u64 = chain[base + 1..].iter().sum();
                copied += skipped;
                chain.truncate(base + 1);
                chain.push(active + skipped);
            }
            assert!(chain.len() <= LONG);
        }
        assert!(copied > written && copied < 3 * written, "{copied}");
    }
}
