//! CIM datetime: timestamps and intervals of 25 characters (DSP0004 5.2.4).

/// A point in time with its offset from UTC, or a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DateTime {
    /// `yyyymmddHHMMSS.ffffffsUUU`.
    Timestamp {
        /// Microseconds since 1970-01-01T00:00:00 UTC.
        unix_micros: i64,
        /// Offset of the printed local time from UTC, in minutes.
        offset_minutes: i16,
    },
    /// `ddddddddHHMMSS.ffffff:000`.
    Interval {
        /// Length in microseconds.
        micros: u64,
    },
}
