//! Rounding that keeps sums: what is printed in a column adds up to the total printed under it.

/// Shares `total` units out by the sizes of `parts`, by largest remainder.
///
/// The result sums to `total` exactly and each share is within one unit of its part's true share;
/// of equal remainders the earlier part gets the unit. All zero when the parts are.
///
/// Source: the Hamilton method of apportionment.
pub fn apportion(parts: &[u64], total: u64) -> Vec<u64> {
    let sum: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    if sum == 0 {
        return vec![0; parts.len()];
    }
    let scaled: Vec<u128> =
        parts.iter().map(|part| u128::from(*part) * u128::from(total)).collect();
    let mut shares: Vec<u64> =
        scaled.iter().map(|scaled| u64::try_from(scaled / sum).unwrap_or(u64::MAX)).collect();
    let left = total - shares.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|i| std::cmp::Reverse(scaled[*i] % sum));
    for i in by_remainder.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        shares[i] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_the_total_and_stay_within_one_unit() {
        let mut seed = 1u64;
        for _ in 0..500 {
            let parts: Vec<u64> = (0..9)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    seed >> 30
                })
                .collect();
            let sum: u64 = parts.iter().sum();
            let shares = apportion(&parts, 1000);
            assert_eq!(shares.iter().sum::<u64>(), 1000);
            for (part, share) in parts.iter().zip(&shares) {
                let exact = *part as f64 * 1000.0 / sum as f64;
                assert!((*share as f64 - exact).abs() < 1.0, "{share} for {exact}");
            }
        }
    }

    #[test]
    fn nothing_is_shared_out_as_nothing() {
        assert_eq!(apportion(&[0, 0], 10), [0, 0]);
        assert_eq!(apportion(&[], 10), Vec::<u64>::new());
    }
}
