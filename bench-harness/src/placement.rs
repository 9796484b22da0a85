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

/// Cores that are by so much further from each other than in another round were somewhere else.
const ELSEWHERE: f64 = 2.0;

/// The ratio of the rounds with the cores nearest to each other, and of those with the cores farthest, where that differs and there are
/// rounds enough for an interval. `each` is the ratio of each round, and `apart_ns` the least and the most of the looks in it, if any;
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
    let is_split = distances
        .first()
        .zip(distances.last())
        .is_some_and(|(near, far)| far / near > ELSEWHERE);
    if !is_split {
        return Vec::new();
    }
    // Where the next one is farthest from the one before.
    let gaps = distances.windows(2).map(|pair| pair[1] / pair[0]);
    let Some((last_near, _)) = gaps
        .enumerate()
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
    else {
        return Vec::new();
    };
    let (near, far) = rounds.split_at(last_near + 1);
    [near, far]
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
        let placed = by_distance("", &each, &[FAR, NEAR, FAR, FAR]);
        assert_eq!(placed.len(), 1);
        assert_eq!(placed[0].ratio.each.len(), 3);
    }
}
