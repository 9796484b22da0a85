//! Axes: from values to places, and the ticks between.

use crate::suite::{axis::Scale, results::Spread};

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What stands beside it, with the unit.
    pub label: String,
    /// How it is drawn.
    pub scale: Scale,
    /// The value at its beginning; of a logarithmic axis more than 0.
    pub min: f64,
    /// The value at its end.
    pub max: f64,
    /// Values with a mark, and what is written there.
    pub ticks: Vec<(f64, String)>,
    /// A logarithmic axis has a place for 0, apart from the others.
    pub has_zero: bool,
}

impl Axis {
    /// The part of a logarithmic axis that is kept for 0.
    const ZERO_PART: f64 = 0.12;

    /// An axis along which measured points lie: its ticks are their values.
    pub fn along(label: impl Into<String>, scale: Scale, points: &[(f64, String)]) -> Self {
        let positive = || points.iter().map(|point| point.0).filter(|&x| x > 0.0);
        let all = Spread::of(points.iter().map(|point| point.0));
        let (min, max) = match scale {
            Scale::Log => (
                positive().fold(f64::INFINITY, f64::min),
                positive().fold(0.0, f64::max),
            ),
            _ => all.map_or((0.0, 1.0), |all| (all.min, all.max)),
        };
        let (min, max) = if min.is_finite() && max > 0.0 {
            (min, max)
        } else {
            (1.0, 10.0)
        };
        Self {
            label: label.into(),
            scale,
            min,
            max,
            ticks: points.to_vec(),
            has_zero: scale == Scale::Log && points.iter().any(|point| point.0 == 0.0),
        }
    }

    /// An axis for values from `least` to `most`, with round ticks: from zero, or logarithmic if they are too far apart for that.
    pub fn of_values(
        label: impl Into<String>,
        least: f64,
        most: f64,
        is_log: bool,
        words: fn(f64) -> String,
    ) -> Self {
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        let label = label.into();
        if is_log {
            let least = if least > 0.0 { least.min(most) } else { most / 10.0 };
            let (min, max) = (below(least), above(most));
            return Self {
                label,
                scale: Scale::Log,
                min,
                max,
                ticks: log_ticks(min, max)
                    .into_iter()
                    .map(|tick| (tick, words(tick)))
                    .collect(),
                has_zero: false,
            };
        }
        let step = round_step(most / 4.5);
        let count = (most / step).ceil().max(1.0);
        Self {
            label,
            scale: Scale::Linear,
            min: 0.0,
            max: step * count,
            ticks: (0..=count as usize)
                .map(|index| (step * index as f64, words(step * index as f64)))
                .collect(),
            has_zero: false,
        }
    }

    /// Where a value is, from 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Log if value <= 0.0 => return 0.0,
            Scale::Log if self.has_zero && self.max == self.min => return 1.0,
            Scale::Log if self.max > self.min => (value / self.min).ln() / (self.max / self.min).ln(),
            Scale::Linear if self.max > self.min => (value - self.min) / (self.max - self.min),
            Scale::Category => {
                let at = self.ticks.iter().position(|tick| tick.0 == value).unwrap_or(0);
                return (at as f64 + 0.5) / self.ticks.len().max(1) as f64;
            }
            _ => 0.5,
        };
        if self.has_zero {
            Self::ZERO_PART + (1.0 - Self::ZERO_PART) * part
        } else {
            part
        }
    }
}

/// 1, 2 or 5 times a power of ten, no less than `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|&candidate| candidate >= step * 0.999_999)
        .unwrap_or(10.0 * power)
}

const DIGITS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

fn below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    DIGITS
        .into_iter()
        .rev()
        .map(|digit| digit * power)
        .find(|&candidate| candidate <= value * 1.000_001)
        .unwrap_or(power)
}

fn above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    DIGITS
        .into_iter()
        .map(|digit| digit * power)
        .find(|&candidate| candidate >= value * 0.999_999)
        .unwrap_or(10.0 * power)
}

/// Every 1, 2 and 5 where there are few decades, else the powers of ten.
fn log_ticks(min: f64, max: f64) -> Vec<f64> {
    let digits: &[f64] = if max / min <= 150.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let first = min.log10().floor() as i32;
    let last = max.log10().ceil() as i32;
    let all = (first..=last).flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
    all.filter(|tick| (min * 0.999_999..=max * 1.000_001).contains(tick))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::axis::many;

    #[test]
    fn ticks_are_round() {
        let axis = Axis::of_values("x", 3.0, 23e6, false, many);
        let ticks: Vec<_> = axis.ticks.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(ticks, ["0", "10 M", "20 M", "30 M"]);
        let axis = Axis::of_values("x", 130.0, 70_000.0, true, many);
        assert_eq!((axis.min, axis.max), (100.0, 100_000.0));
        assert_eq!(axis.ticks.len(), 4);
    }

    #[test]
    fn places_are_in_order() {
        let points: Vec<_> = [0.0, 1e3, 1e4, 1e7].map(|x| (x, many(x))).to_vec();
        let axis = Axis::along("x", Scale::Log, &points);
        let places: Vec<_> = points.iter().map(|point| axis.place(point.0)).collect();
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
        assert_eq!((places[0], places[3]), (0.0, 1.0));
        let ratios = [(0.5, "1:1".to_owned()), (0.2, "1:4".to_owned())];
        let axis = Axis::along("x", Scale::Category, &ratios);
        assert_eq!((axis.place(0.5), axis.place(0.2)), (0.25, 0.75));
    }

    #[test]
    fn one_value_is_in_the_middle() {
        let axis = Axis::along("x", Scale::Linear, &[(10.0, "10".into())]);
        assert_eq!(axis.place(10.0), 0.5);
        assert!(
            Axis::along("x", Scale::Log, &[(0.0, "0".into())])
                .place(0.0)
                .is_finite()
        );
    }
}
