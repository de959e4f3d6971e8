//! What is compared, and where it comes from.

use crate::bench::contender;
use crate::bench::results::{Restored, Row, Taken};
use crate::bench::statistics::Series;

const MIB: f64 = 1_048_576.0;

/// Something that is compared. Less is better.
pub struct Measure {
    pub title: &'static str,
    of: fn(&Row) -> Vec<f64>,
}

impl Measure {
    /// None if nothing was measured.
    pub fn series(&self, row: &Row) -> Option<Series> {
        Series::of((self.of)(row))
    }
}

fn of_snapshots(row: &Row, of: impl Fn(&Taken) -> Option<f64>) -> Vec<f64> {
    row.snapshots.iter().filter_map(of).collect()
}

fn of_restores(row: &Row, of: impl Fn(&Restored) -> Option<f64>) -> Vec<f64> {
    row.restores.iter().filter_map(of).collect()
}

pub const SILENCE: Measure = Measure {
    title: "longest silence of the heartbeat, ms",
    of: |row| of_snapshots(row, |taken| taken.silence_ms),
};
pub const PAUSE: Measure = Measure {
    title: "pause by QEMU's events, ms",
    of: |row| of_snapshots(row, |taken| taken.pause_ms),
};
pub const COMMAND: Measure = Measure {
    title: "command from start to end, ms",
    of: |row| of_snapshots(row, |taken| Some(taken.command_ms)),
};
pub const DURABLE: Measure = Measure {
    title: "time to durable, ms",
    of: |row| of_snapshots(row, |taken| Some(taken.durable_ms)),
};
pub const GROWN: Measure = Measure {
    title: "growth on the disk, MiB",
    of: |row| of_snapshots(row, |taken| Some(taken.grown_bytes / MIB)),
};
/// Of the second snapshot on: what the first must store has changed since nothing.
pub const STORED_OVER_CHANGED: Measure = Measure {
    title: "growth on the disk / bytes changed",
    of: |row| {
        of_snapshots(row, |taken| {
            Some(taken.grown_bytes / taken.changed_bytes?.max(1.0))
        })
    },
};
pub const RESTORE: Measure = Measure {
    title: "restore, command to first heartbeat, ms",
    of: |row| of_restores(row, |restored| Some(restored.first_beat_ms)),
};
pub const START: Measure = Measure {
    title: "  of that, from the command that starts, ms",
    of: |row| of_restores(row, |restored| Some(restored.start_to_beat_ms)),
};
pub const RESIDENT: Measure = Measure {
    title: "restore until all memory is there, ms",
    of: |row| of_restores(row, |restored| restored.resident_ms),
};
pub const NEXT_SILENCE: Measure = Measure {
    title: "silence in the restored guest's snapshot, ms",
    of: |row| {
        row.after_restore
            .iter()
            .filter_map(|taken| taken.silence_ms)
            .collect()
    },
};
pub const NEXT_PAUSE: Measure = Measure {
    title: "pause in the restored guest's snapshot, ms",
    of: |row| {
        row.after_restore
            .iter()
            .filter_map(|taken| taken.pause_ms)
            .collect()
    },
};
pub const DELETE: Measure = Measure {
    title: "delete the oldest snapshot, ms",
    of: |row| row.deletes_ms.clone(),
};

/// All of them, in the order in which they are shown.
pub const MEASURES: &[Measure] = &[
    SILENCE,
    Measure {
        title: "the same without a snapshot, ms",
        of: |row| match contender::ends_guest(&row.contender) {
            true => Vec::new(),
            false => vec![row.idle_silence_ms],
        },
    },
    PAUSE,
    Measure {
        title: "pause as it says itself, ms",
        of: |row| of_snapshots(row, |taken| taken.claims.pause_ms),
    },
    COMMAND,
    DURABLE,
    Measure {
        title: "time to durable as it says itself, ms",
        of: |row| of_snapshots(row, |taken| taken.claims.durable_ms),
    },
    GROWN,
    Measure {
        title: "bytes stored as it says itself, MiB",
        of: |row| of_snapshots(row, |taken| Some(taken.claims.stored_bytes? / MIB)),
    },
    STORED_OVER_CHANGED,
    RESTORE,
    START,
    Measure {
        title: "restore, command from start to end, ms",
        of: |row| of_restores(row, |restored| Some(restored.command_ms)),
    },
    RESIDENT,
    NEXT_SILENCE,
    NEXT_PAUSE,
    DELETE,
];
