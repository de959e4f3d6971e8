//! How fast a merge may go while the guest works: as fast as it likes while the guest writes
//! nothing, and slower as long as the guest's own writes take longer than they used to.

use crate::process::{Process, lacking};
use crate::qmp::QmpError;
use serde_json::{Value, json};
use std::time::Duration;

/// What the guest's writes and flushes took so far, all drives together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteTimes {
    /// How many have ended.
    pub ended: u64,
    /// How long they took, one after the other.
    pub nanos: u64,
}

impl Process {
    /// What the guest's writes took so far. What block jobs write is not in it.
    pub async fn write_times(&self) -> Result<WriteTimes, QmpError> {
        const COMMAND: &str = "query-blockstats";
        let reply = self.qmp().execute(COMMAND, json!({})).await?;
        sum(&reply).ok_or_else(|| lacking(COMMAND, "the list"))
    }
}

fn sum(reply: &Value) -> Option<WriteTimes> {
    let mut times = WriteTimes::default();
    for device in reply.as_array()? {
        let number = |key| {
            let value = device.get("stats").and_then(|stats| stats.get(key));
            value.and_then(Value::as_u64).unwrap_or(0)
        };
        for (ended, nanos) in [
            ("wr_operations", "wr_total_time_ns"),
            ("flush_operations", "flush_total_time_ns"),
        ] {
            times.ended = times.ended.saturating_add(number(ended));
            times.nanos = times.nanos.saturating_add(number(nanos));
        }
    }
    Some(times)
}

/// The slowest that a merge is made, in bytes a second; it must end some day.
const SLOWEST: u64 = 4 << 20;
/// Where slowing down begins.
const FIRST: u64 = 128 << 20;
/// Beyond this a limit is none.
const FASTEST: u64 = 2 << 30;
/// Writes may take so many times what they took before.
const PATIENCE: u32 = 2;
/// Whatever they took before, this is never too long, and that always.
const NEVER_TOO_LONG: Duration = Duration::from_millis(2);
const ALWAYS_TOO_LONG: Duration = Duration::from_millis(50);
/// For a guest that has not written before.
const UNKNOWN: Duration = Duration::from_millis(10);

/// Decides the speed of a merge, from time to time.
#[derive(Debug)]
pub struct Throttle {
    allowed: Duration,
    last: WriteTimes,
    /// Bytes a second; `None` is as fast as it goes.
    speed: Option<u64>,
    quiet: u32,
}

impl Throttle {
    /// `before`: what the guest's writes took before the merge.
    pub fn new(before: WriteTimes) -> Throttle {
        let mean = before.nanos.checked_div(before.ended);
        let usual = mean.map_or(UNKNOWN / PATIENCE, Duration::from_nanos);
        Throttle {
            allowed: (usual.saturating_mul(PATIENCE)).clamp(NEVER_TOO_LONG, ALWAYS_TOO_LONG),
            last: before,
            speed: None,
            quiet: 0,
        }
    }

    /// The speed from now on, if it changes: bytes a second, 0 for no limit.
    pub fn next(&mut self, now: WriteTimes) -> Option<u64> {
        let ended = now.ended.saturating_sub(self.last.ended);
        let nanos = now.nanos.saturating_sub(self.last.nanos);
        self.last = now;
        let before = self.speed;
        match nanos.checked_div(ended).map(Duration::from_nanos) {
            // One look without an ended write may be one long write.
            None => {
                self.quiet = self.quiet.saturating_add(1);
                if self.quiet > 1 {
                    self.speed = None;
                }
            }
            Some(mean) if mean > self.allowed => {
                self.quiet = 0;
                let slower = self.speed.map_or(FIRST, |speed| speed / 2);
                self.speed = Some(slower.max(SLOWEST));
            }
            Some(_) => {
                self.quiet = 0;
                let faster = self.speed.map(|speed| speed.saturating_add(speed / 4));
                self.speed = faster.filter(|speed| *speed < FASTEST);
            }
        }
        (self.speed != before).then(|| self.speed.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ended: u64, millis: u64) -> WriteTimes {
        let nanos = millis * 1_000_000;
        WriteTimes { ended, nanos }
    }

    #[test]
    fn a_merge_slows_down_while_the_guests_writes_take_longer_than_before() {
        // 1 ms each before: 2 ms are allowed.
        let mut throttle = Throttle::new(times(100, 100));
        assert_eq!(throttle.next(times(110, 115)), None);
        assert_eq!(throttle.next(times(120, 165)), Some(FIRST));
        assert_eq!(throttle.next(times(130, 215)), Some(FIRST / 2));
        for _ in 0..20 {
            let last = throttle.last;
            throttle.next(WriteTimes {
                ended: last.ended + 1,
                nanos: last.nanos + 1_000_000_000,
            });
        }
        assert_eq!(throttle.speed, Some(SLOWEST));
        // It recovers step by step, and at once when the guest writes no more.
        let now = throttle.last;
        let next = WriteTimes {
            ended: now.ended + 10,
            nanos: now.nanos + 1,
        };
        assert_eq!(throttle.next(next), Some(SLOWEST + SLOWEST / 4));
        assert_eq!(throttle.next(next), None);
        assert_eq!(throttle.next(next), Some(0));
    }

    #[test]
    fn a_guest_that_never_wrote_leaves_it_alone() {
        let mut throttle = Throttle::new(WriteTimes::default());
        for _ in 0..5 {
            assert_eq!(throttle.next(WriteTimes::default()), None);
        }
    }

    #[test]
    fn the_times_of_all_drives_are_added() {
        let reply = json!([
            {"stats": {"wr_operations": 2, "wr_total_time_ns": 5, "rd_operations": 9}},
            {"stats": {"flush_operations": 1, "flush_total_time_ns": 7}},
            {},
        ]);
        assert_eq!(
            sum(&reply),
            Some(WriteTimes {
                ended: 3,
                nanos: 12
            })
        );
        assert_eq!(sum(&json!(1)), None);
    }
}
