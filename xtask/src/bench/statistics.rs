//! Few numbers, told honestly: the middle one, the worst, and each.

use serde::Serialize;

/// Measurements of the same thing, where less is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The middle one; of an even number, the greater of the two in the middle.
    pub p50: f64,
    pub worst: f64,
    pub best: f64,
    /// In the order of the rounds.
    pub each: Vec<f64>,
}

impl Series {
    /// None without a measurement.
    pub fn of(each: Vec<f64>) -> Option<Self> {
        let mut sorted = each.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            p50: *sorted.get(sorted.len() / 2)?,
            worst: *sorted.last()?,
            best: *sorted.first()?,
            each,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn the_middle_the_worst_and_the_best_are_found_and_the_order_stays() {
        let odd = Series::of(vec![30.0, 10.0, 20.0]).expect("a series");
        assert_eq!((odd.p50, odd.worst, odd.best), (20.0, 30.0, 10.0));
        assert_eq!(odd.each, [30.0, 10.0, 20.0]);
        let even = Series::of(vec![1.0, 2.0]).expect("a series");
        assert_eq!(even.p50, 2.0, "never better than half of them");
        assert_eq!(Series::of(Vec::new()), None);
    }
}
