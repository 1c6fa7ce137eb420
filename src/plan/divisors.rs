//! The whole numbers that divide a number of samples.

/// Returns the divisors of a number, each once, the smallest first; of zero none.
pub fn divisors(number: u64) -> Vec<u64> {
    let low = (1..).take_while(|divisor| *divisor <= number / divisor);
    let low: Vec<u64> = low.filter(|divisor| number.is_multiple_of(*divisor)).collect();
    let high = low.iter().rev().map(|divisor| number / divisor);
    let high: Vec<u64> = high.filter(|divisor| low.last() != Some(divisor)).collect();
    [low, high].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_are_those_that_leave_no_rest() {
        for number in 0..500 {
            let all: Vec<u64> = (1..=number).filter(|d| number % d == 0).collect();
            assert_eq!(divisors(number), all);
        }
    }
}
