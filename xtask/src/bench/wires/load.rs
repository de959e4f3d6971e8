//! Connections that ask as fast as they are answered, for a fixed time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::Operation;
use super::session::{Session, Subject};
use crate::Failure;
use crate::bench::service::processor_time;

/// What one turn came to.
#[derive(Debug, Clone)]
pub struct Turn {
    pub calls_a_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Processor time for one call.
    pub service: Duration,
    pub client: Duration,
}

/// Each session runs the operation again and again until the time is over. What has to be done once,
/// as logging on, is done before.
pub fn run(
    mut sessions: Vec<Box<dyn Session>>,
    operation: Operation,
    subject: &Subject,
    time: Duration,
    service: u32,
) -> Result<Turn, Failure> {
    for session in &mut sessions {
        session.run(operation, subject)?;
    }
    let start = Barrier::new(sessions.len() + 1);
    let own = std::process::id();
    let used = || Ok::<_, Failure>((processor_time(service)?, processor_time(own)?));
    let (latencies, elapsed, before) = thread::scope(|scope| {
        let one = |mut session: Box<dyn Session>| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                repeat(&mut *session, operation, subject, time)
            })
        };
        let threads: Vec<_> = sessions.into_iter().map(one).collect();
        let before = used();
        start.wait();
        let began = Instant::now();
        let mut latencies = Vec::new();
        for thread in threads {
            let each = thread
                .join()
                .map_err(|_| "a connection's thread panicked")?;
            latencies.extend(each?);
        }
        Ok::<_, Failure>((latencies, began.elapsed(), before?))
    })?;
    let after = used()?;
    summed_up(latencies, elapsed, before, after)
}

fn repeat(
    session: &mut dyn Session,
    operation: Operation,
    subject: &Subject,
    time: Duration,
) -> Result<Vec<Duration>, Failure> {
    let began = Instant::now();
    let mut latencies = Vec::new();
    let mut last = began;
    while last - began < time {
        session.run(operation, subject)?;
        let now = Instant::now();
        latencies.push(now - last);
        last = now;
    }
    Ok(latencies)
}

type Used = (Duration, Duration);

fn summed_up(
    mut latencies: Vec<Duration>,
    elapsed: Duration,
    before: Used,
    after: Used,
) -> Result<Turn, Failure> {
    latencies.sort_unstable();
    let calls = u32::try_from(latencies.len())?;
    let at = |hundredths: usize| {
        let place = latencies.len() * hundredths / 100;
        latencies.get(place).copied().ok_or("there was no call")
    };
    Ok(Turn {
        calls_a_second: f64::from(calls) / elapsed.as_secs_f64(),
        p50: at(50)?,
        p99: at(99)?,
        service: after.0.saturating_sub(before.0) / calls,
        client: after.1.saturating_sub(before.1) / calls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_all_calls() {
        let latencies = (1..=200).rev().map(Duration::from_millis).collect();
        let second = Duration::from_secs(1);
        let turn = summed_up(
            latencies,
            4 * second,
            (second, second),
            (2 * second, 3 * second),
        );
        let turn = turn.expect("figures");
        assert!((turn.calls_a_second - 50.0).abs() < 1e-9);
        assert_eq!((turn.p50.as_millis(), turn.p99.as_millis()), (101, 199));
        assert_eq!((turn.service.as_millis(), turn.client.as_millis()), (5, 10));
        assert!(summed_up(Vec::new(), second, (second, second), (second, second)).is_err());
    }
}
