//! CIM datetime: timestamps and intervals of 25 characters (DSP0004 5.2.4).
//!
//! The type has no precision of its own, so wildcards are read where a point in time can stand for
//! them: unknown time of day is the start of the day, unknown offset is UTC. An unknown date is
//! refused. They are never printed.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Why text is not a datetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DateTimeError {
    /// Not of the form at all.
    #[error(
        "a datetime has 25 characters: yyyymmddHHMMSS.ffffff+UUU, or ddddddddHHMMSS.ffffff:000 for \
         an interval"
    )]
    Form,
    /// A field outside its range, such as month 13.
    #[error("the {0} of a datetime is out of range")]
    Range(&'static str),
    /// Wildcards that no point in time can stand for.
    #[error("the {0} of a datetime must not be unknown (asterisks)")]
    Unknown(&'static str),
}

const LENGTH: usize = 25;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Largest interval that eight digits of days can show.
const LONGEST_INTERVAL: u64 = 100_000_000 * DAY as u64 - 1;
/// Year 0 and the end of year 9999, as local time in microseconds.
const FIRST_LOCAL: i64 = -719_528 * DAY;
const LAST_LOCAL: i64 = 2_932_897 * DAY - 1;
const LARGEST_OFFSET: i16 = 999;

impl DateTime {
    /// The present, in UTC.
    pub fn now() -> Self {
        DateTime::from(SystemTime::now())
    }

    /// A timestamp in UTC.
    pub const fn from_unix_micros(unix_micros: i64) -> Self {
        DateTime::Timestamp {
            unix_micros,
            offset_minutes: 0,
        }
    }

    /// A timestamp's microseconds since 1970.
    pub const fn unix_micros(&self) -> Option<i64> {
        match self {
            DateTime::Timestamp { unix_micros, .. } => Some(*unix_micros),
            DateTime::Interval { .. } => None,
        }
    }

    /// An interval's length.
    pub const fn duration(&self) -> Option<Duration> {
        match self {
            DateTime::Timestamp { .. } => None,
            DateTime::Interval { micros } => Some(Duration::from_micros(*micros)),
        }
    }

    /// Earlier or later, shorter or longer. A timestamp and an interval do not compare.
    pub fn compare(&self, other: &DateTime) -> Option<Ordering> {
        match (self, other) {
            (
                DateTime::Timestamp { unix_micros: a, .. },
                DateTime::Timestamp { unix_micros: b, .. },
            ) => Some(a.cmp(b)),
            (DateTime::Interval { micros: a }, DateTime::Interval { micros: b }) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

impl From<SystemTime> for DateTime {
    fn from(time: SystemTime) -> Self {
        let micros = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
            }
        };
        DateTime::from_unix_micros(micros)
    }
}

impl From<Duration> for DateTime {
    fn from(duration: Duration) -> Self {
        DateTime::Interval {
            micros: u64::try_from(duration.as_micros()).unwrap_or(LONGEST_INTERVAL),
        }
    }
}

impl fmt::Display for DateTime {
    /// Always 25 characters. What the form cannot show (years before 0 or after 9999, more than
    /// eight digits of days) is printed as the nearest that it can. UTC is `-000`: some clients
    /// know only the minus sign, and text with the same sign sorts by time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DateTime::Timestamp {
                unix_micros,
                offset_minutes,
            } => {
                let offset = offset_minutes.clamp(-LARGEST_OFFSET, LARGEST_OFFSET);
                let local = unix_micros
                    .saturating_add(i64::from(offset) * MINUTE)
                    .clamp(FIRST_LOCAL, LAST_LOCAL);
                let (year, month, day) = civil_from_days(local.div_euclid(DAY));
                let rest = local.rem_euclid(DAY);
                let sign = if offset > 0 { '+' } else { '-' };
                write!(
                    f,
                    "{year:04}{month:02}{day:02}{:02}{:02}{:02}.{:06}{sign}{:03}",
                    rest / HOUR,
                    rest % HOUR / MINUTE,
                    rest % MINUTE / SECOND,
                    rest % SECOND,
                    offset.unsigned_abs()
                )
            }
            DateTime::Interval { micros } => {
                let micros = micros.min(LONGEST_INTERVAL);
                let [day, hour, minute, second] =
                    [DAY, HOUR, MINUTE, SECOND].map(i64::cast_unsigned);
                write!(
                    f,
                    "{:08}{:02}{:02}{:02}.{:06}:000",
                    micros / day,
                    micros % day / hour,
                    micros % hour / minute,
                    micros % minute / second,
                    micros % second
                )
            }
        }
    }
}

impl FromStr for DateTime {
    type Err = DateTimeError;

    fn from_str(text: &str) -> Result<Self, DateTimeError> {
        let bytes: &[u8; LENGTH] = text
            .as_bytes()
            .try_into()
            .map_err(|_| DateTimeError::Form)?;
        if bytes[14] != b'.' {
            return Err(DateTimeError::Form);
        }
        match bytes[21] {
            b':' => parse_interval(bytes),
            b'+' | b'-' => parse_timestamp(bytes),
            _ => Err(DateTimeError::Form),
        }
    }
}

fn parse_timestamp(bytes: &[u8; LENGTH]) -> Result<DateTime, DateTimeError> {
    let mut fields = Fields::new(bytes);
    let year = fields.known(0..4, "year")?;
    let month = fields.known(4..6, "month")?;
    let day = fields.known(6..8, "day")?;
    let time = fields.time_of_day()?;
    if !(1..=12).contains(&month) {
        return Err(DateTimeError::Range("month"));
    }
    if day < 1 || day > days_in_month(year, month) {
        return Err(DateTimeError::Range("day"));
    }
    // The offset may be unknown by itself, so it does not take part in the order of wildcards.
    let offset = Fields::new(bytes).optional(22..25)?.unwrap_or(0);
    let offset = if bytes[21] == b'-' { -offset } else { offset };
    let local = days_from_civil(year, month, day) * DAY + time;
    Ok(DateTime::Timestamp {
        unix_micros: local - offset * MINUTE,
        offset_minutes: i16::try_from(offset).map_err(|_| DateTimeError::Range("offset"))?,
    })
}

fn parse_interval(bytes: &[u8; LENGTH]) -> Result<DateTime, DateTimeError> {
    if &bytes[22..] != b"000" {
        return Err(DateTimeError::Form);
    }
    let mut fields = Fields::new(bytes);
    let days = fields.known(0..8, "days")?;
    let micros = days * DAY + fields.time_of_day()?;
    Ok(DateTime::Interval {
        micros: micros.unsigned_abs(),
    })
}

/// Reads the fields from left to right, and sees to it that nothing known follows an unknown one.
struct Fields<'a> {
    bytes: &'a [u8; LENGTH],
    unknown: bool,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8; LENGTH]) -> Self {
        Fields {
            bytes,
            unknown: false,
        }
    }

    fn known(
        &mut self,
        range: std::ops::Range<usize>,
        name: &'static str,
    ) -> Result<i64, DateTimeError> {
        self.optional(range)?.ok_or(DateTimeError::Unknown(name))
    }

    /// `None` when the field is all asterisks.
    fn optional(&mut self, range: std::ops::Range<usize>) -> Result<Option<i64>, DateTimeError> {
        let digits = self.bytes.get(range).ok_or(DateTimeError::Form)?;
        if digits.iter().all(|byte| *byte == b'*') {
            self.unknown = true;
            return Ok(None);
        }
        if self.unknown {
            return Err(DateTimeError::Form);
        }
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(DateTimeError::Form);
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        Ok(Some(number))
    }

    fn below(
        &mut self,
        range: std::ops::Range<usize>,
        bound: i64,
        name: &'static str,
    ) -> Result<i64, DateTimeError> {
        let number = self.optional(range)?.unwrap_or(0);
        if number < bound {
            Ok(number)
        } else {
            Err(DateTimeError::Range(name))
        }
    }

    fn time_of_day(&mut self) -> Result<i64, DateTimeError> {
        let hour = self.below(8..10, 24, "hour")?;
        let minute = self.below(10..12, 60, "minute")?;
        let second = self.below(12..14, 60, "second")?;
        Ok(hour * HOUR + minute * MINUTE + second * SECOND + self.microseconds()?)
    }

    /// Six digits, of which the last ones may be unknown.
    fn microseconds(&mut self) -> Result<i64, DateTimeError> {
        let mut micros = 0;
        for at in 15..21 {
            micros = micros * 10 + self.optional(at..at + 1)?.unwrap_or(0);
        }
        Ok(micros)
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days before `year`, counted from year 0, in the Gregorian calendar continued backwards.
fn days_before_year(year: i64) -> i64 {
    if year <= 0 {
        return 0;
    }
    let last = year - 1;
    // Year 0 is a leap year, hence the one.
    year * 365 + last / 4 - last / 100 + last / 400 + 1
}

const DAYS_TO_1970: i64 = 719_528;

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let months: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
    days_before_year(year) + months + day - 1 - DAYS_TO_1970
}

/// Year, month and day; `days` must lie in the years 0 to 9999.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    // 400 years have 146,097 days; the estimate is at most one year off.
    let mut year = days * 400 / 146_097;
    if days_before_year(year) > days {
        year -= 1;
    } else if days_before_year(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - days_before_year(year);
    let mut month = 1;
    while rest >= days_in_month(year, month) && month < 12 {
        rest -= days_in_month(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}
