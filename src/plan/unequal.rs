//! Unequal devices: what the weakest costs the others, and what each could do were they allowed to
//! differ. No framework lets them, so this informs and decides nothing.

use crate::plan::solver::Limits;

/// Micro-batches that differ by device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unequal {
    /// Micro-steps.
    pub accumulation: u64,
    /// Samples of each device in each micro-step, in the order of the limits.
    pub micro_batches: Vec<u64>,
}

impl Unequal {
    /// Returns samples of all devices in one micro-step.
    pub fn samples(&self) -> u64 {
        self.micro_batches.iter().sum()
    }

    /// Returns what each device multiplies its mean loss by, so that the mean of all gradients is
    /// that of all samples.
    ///
    /// DistributedDataParallel divides the sum of the gradients by the number of devices, whatever
    /// each of them has seen: device i weighs `micro_batch_i * devices / samples`.
    pub fn loss_weights(&self) -> Vec<f64> {
        let (devices, samples) = (self.micro_batches.len() as f64, self.samples() as f64);
        self.micro_batches.iter().map(|size| *size as f64 * devices / samples).collect()
    }
}

/// Returns the fewest micro-steps in which devices of these limits do `target` samples exactly,
/// each at least one sample in each, shared out in proportion to what they can do.
///
/// `None` when not all devices can take a sample, or `fewer` micro-steps or more would be needed.
pub fn unequal(limits: &[Limits], target: u64, fewer: u64) -> Option<Unequal> {
    (1..fewer).filter(|steps| target.is_multiple_of(*steps)).find_map(|accumulation| {
        let most: Vec<u64> = limits.iter().map(|limit| limit.at(accumulation)).collect();
        let micro_batches = share(target / accumulation, &most)?;
        Some(Unequal { accumulation, micro_batches })
    })
}

/// Shares samples out in proportion to `most`, each at least one and none above its own.
fn share(samples: u64, most: &[u64]) -> Option<Vec<u64>> {
    let all = most.iter().try_fold(0u64, |sum, most| sum.checked_add(*most))?;
    if most.contains(&0) || samples > all || samples < most.len() as u64 {
        return None;
    }
    let part = |most: u64| u64::try_from(u128::from(samples) * u128::from(most) / u128::from(all));
    let mut shares: Vec<u64> =
        most.iter().map(|most| part(*most).unwrap_or(0).clamp(1, *most)).collect();
    loop {
        let given: u64 = shares.iter().sum();
        let room = |at: &usize| most[*at] - shares[*at];
        let next = match given.cmp(&samples) {
            std::cmp::Ordering::Equal => return Some(shares),
            std::cmp::Ordering::Less => (0..shares.len()).max_by_key(room),
            std::cmp::Ordering::Greater => (0..shares.len()).max_by_key(|at| shares[*at]),
        };
        let at = next?;
        shares[at] = if given < samples { shares[at] + 1 } else { shares[at] - 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(sizes: &[u64]) -> Vec<Limits> {
        sizes.iter().map(|size| Limits { single: *size, accumulated: *size }).collect()
    }

    #[test]
    fn devices_share_samples_as_they_can() {
        let plan = unequal(&limits(&[18, 18, 18, 18, 6]), 390, 100).expect("5 steps of 78");
        assert_eq!(
            (plan.accumulation, plan.micro_batches.as_slice()),
            (5, &[18, 18, 18, 18, 6][..])
        );
        let weights = plan.loss_weights();
        assert!((weights.iter().sum::<f64>() - 5.0).abs() < 1e-12, "they average to one");
        assert!((weights[4] - 6.0 * 5.0 / 78.0).abs() < 1e-12);
    }

    #[test]
    fn shares_add_up_and_stay_within_every_limit() {
        for samples in 1..60 {
            for most in [vec![1, 40, 3], vec![7, 7, 7], vec![1, 1], vec![50, 2, 2, 2]] {
                let all: u64 = most.iter().sum();
                let possible = samples <= all && samples >= most.len() as u64;
                let shares = share(samples, &most);
                assert_eq!(shares.is_some(), possible, "{samples} {most:?}");
                let Some(shares) = shares else { continue };
                assert_eq!(shares.iter().sum::<u64>(), samples);
                assert!(shares.iter().zip(&most).all(|(share, most)| (1..=*most).contains(share)));
            }
        }
    }

    #[test]
    fn no_plan_is_offered_where_it_would_not_help() {
        assert_eq!(unequal(&limits(&[4, 4]), 64, 8), None, "as many steps as alike ones need");
        assert_eq!(unequal(&limits(&[4, 0]), 64, 100), None, "one cannot take part");
    }
}
