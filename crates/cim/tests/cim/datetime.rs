//! What `cim::datetime` promises.

use cim::{DateTime, DateTimeError};
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

fn stamp(unix_micros: i64, offset_minutes: i16) -> DateTime {
    DateTime::Timestamp {
        unix_micros,
        offset_minutes,
    }
}

#[test]
fn timestamps_print_as_clients_expect() {
    assert_eq!(stamp(0, 0).to_string(), "19700101000000.000000-000");
    assert_eq!(
        stamp(1_353_589_530_123_456, 60).to_string(),
        "20121122140530.123456+060"
    );
    assert_eq!(
        stamp(1_353_589_530_123_456, -480).to_string(),
        "20121122050530.123456-480"
    );
    assert_eq!(
        DateTime::from(UNIX_EPOCH - Duration::from_micros(1)).to_string(),
        "19691231235959.999999-000"
    );
}

#[test]
fn intervals_print_with_a_colon() {
    assert_eq!(
        DateTime::from(Duration::from_secs(0)).to_string(),
        "00000000000000.000000:000"
    );
    assert_eq!(
        DateTime::from(Duration::from_millis(90_061_500)).to_string(),
        "00000001010101.500000:000"
    );
}

#[test]
fn offsets_do_not_change_the_instant() {
    let a: DateTime = "20121122140530.123456+060".parse().unwrap();
    let b: DateTime = "20121122130530.123456+000".parse().unwrap();
    assert_eq!(a.compare(&b), Some(std::cmp::Ordering::Equal));
    assert_eq!(a.unix_micros(), Some(1_353_589_530_123_456));
}

#[test]
fn wildcards_stand_for_the_start_of_the_period() {
    let day = "20240229000000.000000+000".parse::<DateTime>().unwrap();
    for text in [
        "20240229******.******+000",
        "20240229******.******+***",
        "20240229000000.******-000",
        "20240229000000.000***-***",
    ] {
        assert_eq!(text.parse::<DateTime>(), Ok(day), "{text}");
    }
    for (text, error) in [
        ("**************.******+000", DateTimeError::Unknown("year")),
        ("2024**********.******+000", DateTimeError::Unknown("month")),
        ("********000000.000000:000", DateTimeError::Unknown("days")),
        ("20240229**0000.000000+000", DateTimeError::Form),
        ("202402290*****.******+000", DateTimeError::Form),
    ] {
        assert_eq!(text.parse::<DateTime>(), Err(error), "{text}");
    }
}

#[test]
fn what_is_no_datetime_is_refused() {
    for text in [
        "",
        "20240229",
        "20240229000000.000000 000",
        "20240229000000,000000+000",
        "20230229000000.000000+000",
        "20241301000000.000000+000",
        "20240100000000.000000+000",
        "20240101240000.000000+000",
        "20240101006000.000000+000",
        "20240101000060.000000+000",
        "00000001000000.000000:001",
        "00000001240000.000000:000",
        "2024010100000é.00000+000",
    ] {
        assert!(text.parse::<DateTime>().is_err(), "{text}");
    }
}

#[test]
fn what_the_form_cannot_show_is_clamped() {
    for value in [
        stamp(i64::MAX, i16::MAX),
        stamp(i64::MIN, i16::MIN),
        DateTime::Interval { micros: u64::MAX },
    ] {
        let text = value.to_string();
        assert_eq!(text.len(), 25, "{text}");
        assert!(text.parse::<DateTime>().is_ok(), "{text}");
    }
}

proptest! {
    #[test]
    fn timestamps_round_trip(
        micros in -62_167_132_800_000_000i64..253_402_207_200_000_000,
        offset in -999i16..=999,
    ) {
        let value = stamp(micros, offset);
        prop_assert_eq!(value.to_string().parse::<DateTime>(), Ok(value));
    }

    #[test]
    fn intervals_round_trip(micros in 0u64..8_640_000_000_000_000_000) {
        let value = DateTime::Interval { micros };
        prop_assert_eq!(value.to_string().parse::<DateTime>(), Ok(value));
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,30}", close in "[0-9*]{14}[.][0-9*]{6}[-+:][0-9*]{3}") {
        let _ = text.parse::<DateTime>();
        let _ = close.parse::<DateTime>();
    }
}
