//! Ratios of passes made in turn: their middle, where they lie with 95 % confidence, and whether they say anything. `xtask` compiles this
//! file as well.

use crate::aim::{Aim, Met};

/// One figure over another, pass by pass; or a figure that passes came to, which has the same middle and interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// `first/other`
    pub name: String,
    /// One for each pass.
    pub each: Vec<f64>,
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Where the ratio lies with 95 % confidence, by Student's t on the logarithms; `None` with fewer than three passes, or
    /// one that has no logarithm.
    pub interval: Option<(f64, f64)>,
}

impl Ratio {
    /// An interval whose ends are further apart than this factor says nothing about the ratio.
    pub const SPREAD_MAX: f64 = 1.5;

    /// Of the passes in the order they were made. One that was not measured says what is not a number, and is left out; of nothing
    /// else, nothing is a number.
    pub fn new(name: String, mut each: Vec<f64>) -> Self {
        each.retain(|ratio| !ratio.is_nan());
        let min = each.iter().copied().reduce(f64::min).unwrap_or(f64::NAN);
        let max = each.iter().copied().reduce(f64::max).unwrap_or(f64::NAN);
        Self {
            name,
            median: median(&each),
            interval: interval(&each),
            each,
            min,
            max,
        }
    }

    /// Whether it is what it should be.
    pub fn judge(&self, aim: Aim) -> Met {
        aim.judge(self.interval)
    }

    /// Whether it can be stated at all: there are passes enough for an interval, and that is narrower than [`Self::SPREAD_MAX`].
    pub fn is_meaningful(&self) -> bool {
        self.unstated().is_none()
    }

    /// Why it cannot be stated, if it cannot. One pass has no range and two have no interval: nothing tells how far they may be off.
    pub fn unstated(&self) -> Option<&'static str> {
        match (self.each.len(), self.interval) {
            (0, _) => Some("not measured"),
            (1, _) => Some("one pass: no ratio"),
            (2, _) => Some("two passes: no ratio"),
            (_, Some((low, high))) if low > 0.0 && high / low <= Self::SPREAD_MAX => None,
            _ => Some("too noisy"),
        }
    }
}

/// The one in the middle, or what is between the two there; of nothing, not a number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.is_empty() {
        f64::NAN
    } else if sorted.len().is_multiple_of(2) {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    } else {
        sorted[middle]
    }
}

/// The interval that has the mean of the logarithms with 95 % confidence.
fn interval(each: &[f64]) -> Option<(f64, f64)> {
    /// Student's t for 95 %, both sides, by degrees of freedom from 2 on; beyond, that of the last is a little too wide.
    const T: [f64; 29] = [
        4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
        2.042,
    ];
    if each.iter().any(|&ratio| !(ratio > 0.0 && ratio.is_finite())) {
        return None;
    }
    let t = T[each.len().checked_sub(3)?.min(T.len() - 1)];
    let count = each.len() as f64;
    let mean = each.iter().map(|ratio| ratio.ln()).sum::<f64>() / count;
    let squares: f64 = each.iter().map(|ratio| (ratio.ln() - mean).powi(2)).sum();
    let half = t * (squares / (count - 1.0) / count).sqrt();
    Some(((mean - half).exp(), (mean + half).exp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_ratios() {
        let ratio = Ratio::new("a/b".into(), vec![3.0, 1.0, 2.0]);
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 1.0, 3.0));
        assert_eq!(Ratio::new("a/b".into(), vec![1.0, 2.0]).median, 1.5);
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let ratio = Ratio::new("a/b".into(), vec![3.0, 1.0, f64::NAN]);
        assert_eq!(
            (ratio.median, ratio.min, ratio.max, ratio.each.len()),
            (2.0, 1.0, 3.0, 2)
        );
        let nothing = Ratio::new("a/b".into(), vec![f64::NAN]);
        assert!(nothing.median.is_nan() && nothing.min.is_nan());
        assert_eq!(nothing.unstated(), Some("not measured"));
    }

    #[test]
    fn a_ratio_that_says_nothing_is_known() {
        let ratio = |each: &[f64]| Ratio::new("a/b".into(), each.to_vec());
        let steady = ratio(&[2.0, 2.02, 1.98, 2.01, 1.99]);
        let (low, high) = steady.interval.unwrap();
        assert!(
            steady.is_meaningful() && low > 1.97 && high < 2.03,
            "{low} {high}"
        );
        // By hand: logarithms 0 and ± ln 2, so ± 4.303 ln 2 / √3.
        let (low, high) = ratio(&[0.5, 1.0, 2.0]).interval.unwrap();
        assert!(
            (high.ln() - 4.303 * 2_f64.ln() / 3_f64.sqrt()).abs() < 1e-9 && (low * high - 1.0).abs() < 1e-9
        );
        assert!(!ratio(&[0.5, 1.0, 2.0]).is_meaningful());
        assert_eq!(ratio(&[1.0, 1.1]).interval, None);
        assert_eq!(ratio(&[0.5, 1.0, 2.0]).unstated(), Some("too noisy"));
        // However near to each other, fewer than three say nothing of how far they may be off.
        assert_eq!(ratio(&[1.0]).unstated(), Some("one pass: no ratio"));
        assert_eq!(ratio(&[1.0, 1.0]).unstated(), Some("two passes: no ratio"));
        assert!(ratio(&[1.0, 1.0, 1.0]).is_meaningful());
        // What came to nothing once has no logarithm.
        assert_eq!(ratio(&[0.0, 1.0, 1.0]).interval, None);
        assert_eq!(ratio(&[0.0, 1.0, 1.0]).judge(Aim::AtLeast(0.5)), Met::NotClear);
    }
}
