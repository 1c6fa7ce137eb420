//! What an effective batch other than the one asked for means for the learning rate: two rules of
//! thumb, neither of them a law.

/// What to multiply the learning rate by when the effective batch changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// In proportion to the batch, as is usual with SGD.
    ///
    /// Source: Goyal et al. 2017, arXiv:1706.02677, section 2.1.
    pub linear: f64,
    /// With its square root, as is usual with Adam.
    ///
    /// Source: Malladi et al. 2022, arXiv:2205.10287; Krizhevsky 2014, arXiv:1404.5997, section 5.
    pub square_root: f64,
}

impl LearningRate {
    /// Returns the two factors for `batch` samples instead of `asked`, which is not zero.
    pub fn scaled(batch: u64, asked: u64) -> LearningRate {
        let ratio = batch as f64 / asked.max(1) as f64;
        LearningRate { linear: ratio, square_root: ratio.sqrt() }
    }
}

/// Returns by how many percent `batch` differs from `asked`, which is not zero.
pub fn error_percent(batch: u64, asked: u64) -> f64 {
    (batch as f64 - asked as f64) / asked.max(1) as f64 * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linear_rule_is_the_ratio_and_the_other_its_root() {
        let rules = LearningRate::scaled(1024, 256);
        assert_eq!((rules.linear, rules.square_root), (4.0, 2.0));
        assert_eq!(error_percent(252, 256), -1.5625);
        assert_eq!(error_percent(256, 256), 0.0);
    }
}
