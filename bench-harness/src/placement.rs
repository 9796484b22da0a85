//! Ratios of rounds in which the cores lay alike: a hypervisor moves them between rounds, near each other or far apart, and then what
//! spans too much for all rounds together may be steady in each. `xtask` compiles this file as well.

use crate::ratio::Ratio;

/// What the rounds say in which the cores lay alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Nanoseconds from core to core and back, the least and the most of the looks in those rounds.
    pub apart_ns: [f64; 2],
    /// Of those rounds.
    pub ratio: Ratio,
}

/// Cores that are by so much further from each other than before were moved within a round.
const ELSEWHERE: f64 = 2.0;
/// Between rounds in different places there is such a gap, and none within one place.
const APART: f64 = 1.7;

/// The ratio of the rounds in each place of the cores, from near to far, where there were several, and rounds enough for an interval. `each` is the ratio of each round, and `apart_ns` the least and the most of the looks in it, if any;
/// a round within which the cores were moved is neither's.
pub fn by_distance(name: &str, each: &[f64], apart_ns: &[Option<[f64; 2]>]) -> Vec<Placed> {
    let mut rounds: Vec<(f64, [f64; 2])> = each
        .iter()
        .zip(apart_ns)
        .filter_map(|(&ratio, looks)| Some((ratio, (*looks)?)))
        .filter(|(_, [near, far])| *near > 0.0 && far / near <= ELSEWHERE)
        .collect();
    let distance = |[near, far]: [f64; 2]| (near * far).sqrt();
    rounds.sort_by(|(_, one), (_, other)| distance(*one).total_cmp(&distance(*other)));
    let distances: Vec<f64> = rounds.iter().map(|(_, looks)| distance(*looks)).collect();
    // A place ends where the next distance lies far from the one before.
    let mut places: Vec<&[(f64, [f64; 2])]> = Vec::new();
    let mut begin = 0;
    for (at, pair) in distances.windows(2).enumerate() {
        if pair[1] / pair[0] > APART {
            places.push(&rounds[begin..=at]);
            begin = at + 1;
        }
    }
    if places.is_empty() {
        return Vec::new();
    }
    places.push(&rounds[begin..]);
    places
        .into_iter()
        .map(|rounds| {
            let looks = rounds.iter().map(|(_, looks)| *looks);
            Placed {
                apart_ns: looks
                    .reduce(|[near, far], [a, b]| [near.min(a), far.max(b)])
                    .unwrap_or_default(),
                ratio: Ratio::new(name.to_owned(), rounds.iter().map(|(ratio, _)| *ratio).collect()),
            }
        })
        .filter(|placed| placed.ratio.interval.is_some())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Option<[f64; 2]> = Some([50.0, 70.0]);
    const FAR: Option<[f64; 2]> = Some([290.0, 330.0]);

    #[test]
    fn near_and_far_are_told_apart() {
        let each = [2.0, 9.0, 2.1, 9.2, 1.9, 9.1, 5.0];
        let moved = Some([50.0, 330.0]);
        let placed = by_distance("a/b", &each, &[NEAR, FAR, NEAR, FAR, NEAR, FAR, moved]);
        let medians: Vec<f64> = placed.iter().map(|placed| placed.ratio.median).collect();
        assert_eq!(medians, [2.0, 9.1]);
        assert_eq!(placed[0].apart_ns, [50.0, 70.0]);
        assert_eq!(placed[1].apart_ns, [290.0, 330.0]);
        assert!(placed.iter().all(|placed| placed.ratio.is_meaningful()));
        assert!(!Ratio::new("a/b".into(), each.to_vec()).is_meaningful());
    }

    #[test]
    fn one_placement_is_all_rounds_and_two_rounds_are_none() {
        let each = [2.0, 2.1, 1.9, 2.0];
        assert_eq!(by_distance("", &each, &[FAR; 4]), []);
        assert_eq!(by_distance("", &each, &[None; 4]), []);
        assert_eq!(by_distance("", &[], &[]), []);
        // A slow drift is no other place.
        let drift = [50.0, 70.0, 98.0, 137.0].map(|apart| Some([apart, apart]));
        assert_eq!(by_distance("", &each, &drift), []);
        let three: Vec<_> = [50.0, 110.0, 400.0]
            .iter()
            .flat_map(|&apart| [Some([apart, apart]); 3])
            .collect();
        assert_eq!(by_distance("", &[2.0; 9], &three).len(), 3);
        let placed = by_distance("", &each, &[FAR, NEAR, FAR, FAR]);
        assert_eq!(placed.len(), 1);
        assert_eq!(placed[0].ratio.each.len(), 3);
    }
}
