//! `xs:duration` and `xs:dateTime`, as far as WS-Management uses them.

use cim::DateTime;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The longest duration that means something here.
const LONGEST_SECONDS: f64 = 100.0 * 366.0 * 86_400.0;

/// Reads a duration such as `PT1M30.5S`. Years and months count as 365 and 30 days.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let rest = text.trim().strip_prefix('P')?;
    let (date, clock) = match rest.split_once('T') {
        Some((date, clock)) if !clock.is_empty() => (date, clock),
        Some(_) => return None,
        None => (rest, ""),
    };
    if date.is_empty() && clock.is_empty() {
        return None;
    }
    let days = parts(date, &[('Y', 365.0), ('M', 30.0), ('D', 1.0)])?;
    let seconds = parts(clock, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])?;
    let all = days * 86_400.0 + seconds;
    (0.0..=LONGEST_SECONDS)
        .contains(&all)
        .then(|| Duration::from_secs_f64(all))
}

/// The sum of numbers with designators in the given order, each at most once.
fn parts(mut text: &str, designators: &[(char, f64)]) -> Option<f64> {
    let mut sum = 0.0;
    for (designator, unit) in designators {
        let Some((number, rest)) = text.split_once(*designator) else {
            continue;
        };
        let plausible = !number.is_empty()
            && number.len() <= 20
            && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !plausible {
            return None;
        }
        sum += number.parse::<f64>().ok()? * unit;
        text = rest;
    }
    text.is_empty().then_some(sum)
}

/// The text of a duration, in whole seconds.
pub fn format_duration(duration: Duration) -> String {
    format!("PT{}S", duration.as_secs())
}

/// How long from now until an expiry that is a duration or a moment; `None` for one that is neither,
/// or past.
pub fn parse_expiry(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(duration) = parse_duration(text) {
        return (!duration.is_zero()).then_some(duration);
    }
    let moment = parse_moment(text)?;
    let left = moment - OffsetDateTime::now_utc();
    Duration::try_from(left).ok().filter(|it| !it.is_zero())
}

/// `xs:dateTime`; without a zone it is UTC.
fn parse_moment(text: &str) -> Option<OffsetDateTime> {
    let zoned = OffsetDateTime::parse(text, &Rfc3339).ok();
    zoned.or_else(|| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339).ok())
}

/// A CIM datetime in XML's spelling: a moment or a duration.
pub enum Spelled {
    /// `xs:dateTime`.
    Moment(String),
    /// `xs:duration`.
    Interval(String),
}

/// Spells a datetime.
pub fn spell(value: DateTime) -> Spelled {
    match value {
        DateTime::Timestamp {
            unix_micros,
            offset_minutes,
        } => {
            let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_micros) * 1000)
                .unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let offset = time::UtcOffset::from_whole_seconds(i32::from(offset_minutes) * 60)
                .unwrap_or(time::UtcOffset::UTC);
            let local = moment.checked_to_offset(offset).unwrap_or(moment);
            Spelled::Moment(local.format(&Rfc3339).unwrap_or_default())
        }
        DateTime::Interval { micros } => {
            let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
            let (days, seconds) = (seconds / 86_400, seconds % 86_400);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            Spelled::Interval(format!("P{days}DT{hours}H{minutes}M{seconds}.{micros:06}S"))
        }
    }
}

/// The CIM text of a moment or a duration in XML's spelling.
pub fn cim_text(text: &str) -> Option<String> {
    if let Some(duration) = parse_duration(text) {
        let micros = u64::try_from(duration.as_micros()).ok()?;
        return Some(DateTime::Interval { micros }.to_string());
    }
    let moment = parse_moment(text.trim())?;
    let unix_micros = i64::try_from(moment.unix_timestamp_nanos() / 1000).ok()?;
    let offset_minutes = moment.offset().whole_minutes();
    let value = DateTime::Timestamp {
        unix_micros,
        offset_minutes,
    };
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Spelled, cim_text, parse_duration, parse_expiry, spell};
    use std::time::Duration;

    #[test]
    fn durations_in_the_forms_that_clients_send() {
        let cases = [
            ("PT20S", Some(20_000)),
            ("PT1M30S", Some(90_000)),
            ("PT1M", Some(60_000)),
            ("PT5.0S", Some(5_000)),
            ("PT60.000S", Some(60_000)),
            ("P1DT2H", Some(93_600_000)),
            ("P0DT0H5M0S", Some(300_000)),
            ("PT0.25S", Some(250)),
            ("P", None),
            ("PT", None),
            ("20", None),
            ("-PT5S", None),
            ("PT5S5S", None),
            ("PT5", None),
            ("PT1e9S", None),
            ("P99999999999Y", None),
        ];
        for (text, expected) in cases {
            let found = parse_duration(text);
            assert_eq!(found, expected.map(Duration::from_millis), "{text}");
        }
        assert_eq!(parse_expiry("PT0S"), None);
        assert_eq!(parse_expiry("2001-01-01T00:00:00Z"), None);
        assert!(parse_expiry("2999-01-01T00:00:00Z").is_some());
    }

    #[test]
    fn datetimes_go_both_ways() {
        for text in ["20240229123456.789000+060", "00000003040506.000007:000"] {
            let value: cim::DateTime = text.parse().unwrap();
            let (Spelled::Moment(xml) | Spelled::Interval(xml)) = spell(value);
            assert_eq!(cim_text(&xml).as_deref(), Some(text), "{xml}");
        }
        assert_eq!(cim_text("yesterday"), None);
    }
}
