//! What a figure should be, and whether it is: the one rule for all tables and reports. `xtask` compiles this file as well.

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// No more than this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// No less than this.
    AtLeast(f64),
}

/// Whether a figure is what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// All of its interval is.
    Yes,
    /// Nothing of its interval is.
    No,
    /// The aim lies inside the interval, or there are too few passes for one.
    NotClear,
}

impl Aim {
    /// Judges a figure that several passes came to, by all of its interval and not by its middle: where passes of the same thing lie on
    /// both sides of the aim, another run may say the opposite.
    pub fn judge(self, interval: Option<(f64, f64)>) -> Met {
        match interval.map(|(low, high)| (self.has(low), self.has(high))) {
            Some((true, true)) => Met::Yes,
            Some((false, false)) => Met::No,
            _ => Met::NotClear,
        }
    }

    /// Judges a count, or a single value that has no interval.
    pub fn judge_exact(self, value: f64) -> Met {
        self.judge(Some((value, value)))
    }

    fn has(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// `≤ 64 B`
    pub fn words(self, show: impl FnOnce(f64) -> String) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {}", show(limit)),
            Self::Below(limit) => format!("< {}", show(limit)),
            Self::AtLeast(limit) => format!("≥ {}", show(limit)),
        }
    }
}

impl Met {
    /// As tables have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NotClear => "not clear",
        }
    }

    /// As JSON has it: `null` where it is not clear.
    pub const fn known(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No => Some(false),
            Self::NotClear => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_or_missed_by_all_of_the_interval() {
        let judge = |low, high| Aim::AtLeast(1.0).judge(Some((low, high)));
        assert_eq!((judge(1.0, 9.0), judge(1.2, 1.3)), (Met::Yes, Met::Yes));
        assert_eq!((judge(0.1, 0.9), judge(0.99, 0.999)), (Met::No, Met::No));
        // Wherever its middle is, and however narrow it is.
        assert_eq!(
            (judge(0.75, 4.37), judge(0.99, 1.0)),
            (Met::NotClear, Met::NotClear)
        );
        assert_eq!(Aim::AtMost(1.3).judge(Some((1.2, 1.3))), Met::Yes);
        assert_eq!(Aim::AtMost(1.3).judge(Some((1.2, 1.31))), Met::NotClear);
        assert_eq!(Aim::AtLeast(1.0).judge(None), Met::NotClear);
    }

    #[test]
    fn what_has_no_interval_is_judged_as_it_is() {
        assert_eq!(Aim::Below(16.0).judge_exact(15.9), Met::Yes);
        assert_eq!(Aim::Below(16.0).judge_exact(16.0), Met::No);
        assert_eq!(Aim::AtMost(16.0).judge_exact(16.0), Met::Yes);
    }

    #[test]
    fn what_is_not_clear_is_null_in_json() {
        let known = [Met::Yes, Met::No, Met::NotClear].map(Met::known);
        assert_eq!(known, [Some(true), Some(false), None]);
    }
}
