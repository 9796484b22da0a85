//! The Universal Scalability Law: throughput of N threads as `X(N) = λN / (1 + σ(N − 1) + κN(N − 1))`.
//!
//! λ is what one thread does alone, σ the part that only one can do at a time (contention), κ what each pair of threads costs one
//! another (coherence). `N / X(N)` is linear in `1/λ`, `σ/λ` and `κ/λ`, so the fit is a linear one, by least squares of *relative*
//! errors, none of the three below zero. Three unknowns need three counts of threads; with two, a whole line of pairs (σ, κ) fits
//! equally well, and its two ends are all that can be said.
//!
//! What the passes' own noise leaves open is found by fitting again and again to passes drawn anew ([`Uncertainty`]).

use serde::{Deserialize, Serialize};

use super::results::Spread;

/// The three coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// Messages per second of one thread.
    pub lambda: f64,
    /// Contention.
    pub sigma: f64,
    /// Coherence.
    pub kappa: f64,
}

/// What points let say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fit {
    /// Three counts of threads or more: one law.
    Determined(Law),
    /// Two counts: every law between these two fits, all contention and all coherence.
    Between(Law, Law),
}

/// Of one count of threads, the messages per second of each pass, in the order they were made.
pub type Count = (f64, Vec<f64>);

/// What the passes' noise leaves open: fits to passes that were drawn anew, with replacement.
#[derive(Clone, Debug)]
pub struct Uncertainty(Vec<Fit>);

impl Law {
    /// How far the medians of some counts are from it: the root of the mean square of the errors, as a part.
    pub fn misfit(&self, counts: &[Count]) -> Option<f64> {
        let errors: Vec<f64> = counts
            .iter()
            .filter_map(|(threads, rates)| {
                let rate = Spread::of(rates.iter().copied())?.median;
                Some((rate / self.at(*threads) - 1.0).powi(2))
            })
            .collect();
        (!errors.is_empty()).then(|| (errors.iter().sum::<f64>() / errors.len() as f64).sqrt())
    }

    /// Messages per second of `threads`.
    pub fn at(&self, threads: f64) -> f64 {
        let others = threads - 1.0;
        self.lambda * threads / (1.0 + self.sigma * others + self.kappa * threads * others)
    }

    /// The count of threads at which throughput is at its peak; `None`: it grows for ever.
    ///
    /// X'(N) has the sign of `1 − σ − κN²`: with σ of 1 or more, no second thread ever adds anything, whatever κ is.
    pub fn peak(&self) -> Option<f64> {
        if self.sigma >= 1.0 {
            return Some(1.0);
        }
        (self.kappa > 0.0).then(|| ((1.0 - self.sigma) / self.kappa).sqrt().max(1.0))
    }
}

impl Fit {
    /// The two ends of what fits: the same law, if there is but one.
    pub const fn ends(&self) -> (Law, Law) {
        match *self {
            Self::Determined(law) => (law, law),
            Self::Between(contention, coherence) => (contention, coherence),
        }
    }

    /// The least and the most that fitting laws say of something.
    pub fn range_of(&self, figure: impl Fn(&Law) -> f64) -> (f64, f64) {
        let (a, b) = self.ends();
        let (a, b) = (figure(&a), figure(&b));
        (a.min(b), a.max(b))
    }

    /// Of points (threads, messages per second); `None` if there are fewer than two counts of threads, or no throughput at all.
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let points: Vec<_> = points
            .iter()
            .copied()
            .filter(|&(threads, rate)| threads >= 1.0 && rate > 0.0 && rate.is_finite())
            .collect();
        let mut counts: Vec<f64> = points.iter().map(|point| point.0).collect();
        counts.sort_by(f64::total_cmp);
        counts.dedup();
        match counts.len() {
            0 | 1 => None,
            2 => {
                let contention = fit(&points, [true, true, false])?;
                let coherence = fit(&points, [true, false, true])?;
                Some(Self::Between(contention, coherence))
            }
            _ => fit(&points, [true, true, true]).map(Self::Determined),
        }
    }

    /// The earliest peak and the latest of fitting laws; `None` is the latest there is.
    pub fn peaks(&self) -> (Option<f64>, Option<f64>) {
        let (low, high) = self.range_of(|law| law.peak().unwrap_or(f64::INFINITY));
        let finite = |peak: f64| peak.is_finite().then_some(peak);
        (finite(low), finite(high))
    }

    /// The least and the most that fitting laws say of `threads`.
    pub fn range_at(&self, threads: f64) -> (f64, f64) {
        self.range_of(|law| law.at(threads))
    }
}

impl Uncertainty {
    /// Enough for the ends of a 95 % interval, and done at once.
    const RESAMPLES: usize = 400;

    /// A round is drawn for all counts at once: its passes were made in turn, so what the machine did to them it did to all. `None` if a
    /// count has fewer than three passes: they would hardly vary.
    pub fn of(counts: &[Count]) -> Option<Self> {
        let rounds = counts.iter().map(|(_, rates)| rates.len()).max()?;
        if counts.iter().any(|(_, rates)| rates.len() < 3) {
            return None;
        }
        // The same for the same results, so that a page made anew is the same page.
        let mut state = 1_u64;
        let fits = (0..Self::RESAMPLES).filter_map(|_| {
            let drawn: Vec<f64> = (0..rounds).map(|_| uniform(&mut state)).collect();
            let points: Vec<(f64, f64)> = counts
                .iter()
                .flat_map(|(threads, rates)| {
                    let drawn = drawn.iter().take(rates.len());
                    drawn.map(|part| (*threads, rates[(part * rates.len() as f64) as usize]))
                })
                .collect();
            Fit::of(&points)
        });
        Some(Self(fits.collect()))
    }

    /// From where to where a figure lies in 95 of a hundred fits; of a figure that is a range, both ends of it.
    pub fn interval(&self, figure: impl Fn(&Fit) -> (f64, f64)) -> Option<(f64, f64)> {
        let (mut low, mut high): (Vec<f64>, Vec<f64>) = self.0.iter().map(figure).unzip();
        low.sort_by(f64::total_cmp);
        high.sort_by(f64::total_cmp);
        let beyond = low.len() / 40;
        Some((*low.get(beyond)?, *high.get(high.len().checked_sub(1 + beyond)?)?))
    }

    /// From where to where the peak lies in 95 of a hundred fits.
    pub fn peaks(&self) -> Option<(Option<f64>, Option<f64>)> {
        let ends = self.interval(|fit| {
            let (early, late) = fit.peaks();
            (early.unwrap_or(f64::INFINITY), late.unwrap_or(f64::INFINITY))
        });
        let finite = |peak: f64| peak.is_finite().then_some(peak);
        ends.map(|(early, late)| (finite(early), finite(late)))
    }
}

/// The next number from 0 to below 1 (splitmix64).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Least squares over the terms that are allowed, none of them negative: of all sets of terms the best whose solution is not.
fn fit(points: &[(f64, f64)], allowed: [bool; 3]) -> Option<Law> {
    let mut best: Option<(f64, [f64; 3])> = None;
    for set in 1..8_usize {
        let has = |term: usize| set >> term & 1 == 1;
        if !has(0) || (0..3).any(|term| has(term) && !allowed[term]) {
            continue;
        }
        let Some(solution) = solve(points, [has(0), has(1), has(2)]) else {
            continue;
        };
        if solution.iter().any(|&term| term < 0.0) {
            continue;
        }
        let error = points
            .iter()
            .map(|&(threads, rate)| {
                let terms = terms(threads);
                let predicted: f64 = (0..3).map(|term| terms[term] * solution[term]).sum();
                (predicted * rate / threads - 1.0).powi(2)
            })
            .sum();
        if best.is_none_or(|(least, _)| error < least - 1e-12) {
            best = Some((error, solution));
        }
    }
    let (_, [inverse, contention, coherence]) = best?;
    (inverse > 0.0).then(|| Law {
        lambda: 1.0 / inverse,
        sigma: contention / inverse,
        kappa: coherence / inverse,
    })
}

fn terms(threads: f64) -> [f64; 3] {
    [1.0, threads - 1.0, threads * (threads - 1.0)]
}

/// The normal equations, by Gauss with pivots; terms that are not in the set stay 0. `None` if they have no single solution.
fn solve(points: &[(f64, f64)], has: [bool; 3]) -> Option<[f64; 3]> {
    let mut matrix = [[0.0; 4]; 3];
    for &(threads, rate) in points {
        // Each equation divided by its right-hand side N/X, so that errors are relative.
        let row = terms(threads).map(|term| term * rate / threads);
        for i in 0..3 {
            for j in 0..3 {
                matrix[i][j] += row[i] * row[j];
            }
            matrix[i][3] += row[i];
        }
    }
    // One scale for all columns: λ may be a billion.
    let scale = matrix[0][0];
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            let is_out = !has[i] || (j < 3 && !has[j]);
            *cell = match (is_out, i == j) {
                (true, true) => 1.0,
                (true, false) => 0.0,
                (false, _) if j < 3 => *cell / scale,
                (false, _) => *cell / scale.sqrt(),
            };
        }
    }
    for column in 0..3 {
        let pivot =
            (column..3).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        if matrix[column][column].abs() < 1e-9 {
            return None;
        }
        let pivot_row = matrix[column];
        for (index, row) in matrix.iter_mut().enumerate() {
            if index != column {
                let factor = row[column] / pivot_row[column];
                for (cell, above) in row.iter_mut().zip(pivot_row) {
                    *cell -= factor * above;
                }
            }
        }
    }
    Some([0, 1, 2].map(|term| matrix[term][3] / matrix[term][term] / scale.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: Law = Law {
        lambda: 12e6,
        sigma: 0.05,
        kappa: 0.002,
    };

    fn points(counts: &[f64]) -> Vec<(f64, f64)> {
        counts.iter().map(|&n| (n, LAW.at(n))).collect()
    }

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-6 * b.abs().max(1e-3)
    }

    #[test]
    fn a_law_is_found_again() {
        let Some(Fit::Determined(law)) = Fit::of(&points(&[1.0, 2.0, 4.0, 8.0, 16.0])) else {
            panic!("five counts determine a law")
        };
        assert!(
            is_near(law.lambda, LAW.lambda) && is_near(law.sigma, LAW.sigma) && is_near(law.kappa, LAW.kappa),
            "{law:?}"
        );
        assert!(is_near(law.peak().unwrap(), (0.95_f64 / 0.002).sqrt()));
    }

    #[test]
    fn two_counts_leave_a_band() {
        let fit = Fit::of(&points(&[1.0, 2.0])).unwrap();
        let Fit::Between(contention, coherence) = fit else {
            panic!("two counts do not determine three coefficients")
        };
        assert_eq!((contention.kappa, coherence.sigma), (0.0, 0.0));
        // Both go through both points, and the law they were made from lies between them.
        for law in [contention, coherence] {
            assert!(
                is_near(law.at(1.0), LAW.at(1.0)) && is_near(law.at(2.0), LAW.at(2.0)),
                "{law:?}"
            );
        }
        let (low, high) = fit.range_at(16.0);
        assert!(low < LAW.at(16.0) && LAW.at(16.0) < high);
    }

    #[test]
    fn more_than_linear_is_taken_for_linear() {
        let Some(Fit::Determined(law)) = Fit::of(&[(1.0, 1e6), (2.0, 2.2e6), (4.0, 4.6e6)]) else {
            panic!("three counts determine a law")
        };
        assert_eq!((law.sigma, law.kappa, law.peak()), (0.0, 0.0, None));
    }

    #[test]
    fn where_the_second_thread_adds_nothing_the_first_is_the_peak() {
        let law = |sigma, kappa| Law { sigma, kappa, ..LAW };
        for law in [law(1.0, 0.0), law(1.4, 0.0), law(1.0, 0.1), law(3.0, 0.002)] {
            assert_eq!(law.peak(), Some(1.0), "{law:?}");
            assert!(
                law.at(2.0) <= law.at(1.0) && law.at(8.0) <= law.at(2.0),
                "{law:?}"
            );
        }
        // Short of that it grows, if only towards λ/σ, or up to where coherence takes over.
        assert_eq!((law(0.99, 0.0).peak(), law(0.0, 0.0).peak()), (None, None));
        assert!(is_near(law(0.75, 0.01).peak().unwrap(), 5.0));
        assert_eq!(law(0.9, 4.0).peak(), Some(1.0));
    }

    #[test]
    fn peaks_go_from_the_earliest_to_the_latest() {
        // Two threads do two thirds of what one does: all contention is σ = 2, all coherence κ = 1.
        assert_eq!(
            Fit::of(&[(1.0, 3e6), (2.0, 2e6)]).unwrap().peaks(),
            (Some(1.0), Some(1.0))
        );
        let (early, late) = Fit::of(&points(&[1.0, 2.0])).unwrap().peaks();
        assert!(
            early.is_some_and(|peak| peak > 1.0) && late.is_none(),
            "{early:?}"
        );
        let between = |sigma: f64, kappa: f64| {
            let law = |sigma, kappa| Law { sigma, kappa, ..LAW };
            Fit::Between(law(sigma, 0.0), law(0.0, kappa)).peaks()
        };
        assert_eq!(between(1.2, 0.25), (Some(1.0), Some(2.0)));
        assert_eq!(between(0.5, 0.25), (Some(2.0), None));
    }

    /// Passes of the law, each round faster or slower as a whole, and each pass by itself.
    fn noisy(numbers: &[f64], rounds: usize, together: f64, alone: f64) -> Vec<Count> {
        let mut state = 7;
        let mut noise = |size: f64| 1.0 + size * (2.0 * uniform(&mut state) - 1.0);
        let whole: Vec<f64> = (0..rounds).map(|_| noise(together)).collect();
        numbers
            .iter()
            .map(|&n| {
                (
                    n,
                    whole
                        .iter()
                        .map(|whole| LAW.at(n) * whole * noise(alone))
                        .collect(),
                )
            })
            .collect()
    }

    #[test]
    fn noise_of_passes_is_uncertainty_of_the_law() {
        let numbers = [1.0, 2.0, 4.0, 8.0, 16.0];
        let sigma = |counts: &[Count]| {
            Uncertainty::of(counts)
                .unwrap()
                .interval(|fit| fit.range_of(|law| law.sigma))
                .unwrap()
        };
        let (low, high) = sigma(&noisy(&numbers, 7, 0.0, 0.05));
        assert!(
            low <= LAW.sigma && LAW.sigma <= high && high - low > 0.005,
            "{low} {high}"
        );
        // Without noise nothing is open, and a machine that is slower for a whole round takes nothing from the shape.
        let (low, high) = sigma(&noisy(&numbers, 7, 0.0, 0.0));
        assert!(high - low < 1e-6, "{low} {high}");
        let (low, high) = sigma(&noisy(&numbers, 7, 0.2, 0.0));
        assert!(high - low < 0.01, "{low} {high}");
        // The same every time.
        let counts = noisy(&numbers, 5, 0.0, 0.05);
        assert_eq!(sigma(&counts), sigma(&counts));
    }

    #[test]
    fn noise_widens_the_band_of_two_counts() {
        let counts = noisy(&[1.0, 2.0], 7, 0.0, 0.05);
        let points: Vec<_> = counts
            .iter()
            .flat_map(|(n, rates)| rates.iter().map(move |&rate| (*n, rate)))
            .collect();
        let (low, high) = Fit::of(&points).unwrap().range_at(16.0);
        let (lower, higher) = Uncertainty::of(&counts)
            .unwrap()
            .interval(|fit| fit.range_at(16.0))
            .unwrap();
        assert!(lower < low && high < higher, "{lower} {low} {high} {higher}");
    }

    #[test]
    fn two_passes_have_no_interval() {
        assert!(Uncertainty::of(&noisy(&[1.0, 2.0], 2, 0.0, 0.05)).is_none());
        assert!(Uncertainty::of(&[]).is_none());
    }

    #[test]
    fn what_does_not_follow_the_law_has_a_misfit() {
        let exact = noisy(&[1.0, 2.0, 4.0], 3, 0.0, 0.0);
        assert!(LAW.misfit(&exact).unwrap() < 1e-9);
        let mut off = exact;
        for rate in &mut off[1].1 {
            *rate *= 1.3;
        }
        // One of three is off by 0.3.
        let misfit = LAW.misfit(&off).unwrap();
        assert!((misfit - 0.3 / 3_f64.sqrt()).abs() < 1e-9, "{misfit}");
    }

    #[test]
    fn one_count_says_nothing() {
        assert_eq!(Fit::of(&[(2.0, 1e6), (2.0, 1.1e6)]), None);
        assert_eq!(Fit::of(&[(1.0, 0.0), (2.0, f64::NAN)]), None);
    }
}
