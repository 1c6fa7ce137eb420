//! Sizes and counts that must not be mixed up: bytes, micro-batches, accumulation steps.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A size in bytes.
///
/// Prints in IEC units (`79.6 GiB`), parses `40GiB`, `40GB`, `512MiB`, `1024B`; a bare number is
/// refused because nobody can tell which unit was meant.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// No bytes at all.
    pub const ZERO: Bytes = Bytes(0);

    /// Wraps a number of bytes.
    pub const fn new(bytes: u64) -> Bytes {
        Bytes(bytes)
    }

    /// Returns `n` kibibytes.
    pub const fn kib(n: u64) -> Bytes {
        Bytes(n << 10)
    }

    /// Returns `n` mebibytes.
    pub const fn mib(n: u64) -> Bytes {
        Bytes(n << 20)
    }

    /// Returns `n` gibibytes.
    pub const fn gib(n: u64) -> Bytes {
        Bytes(n << 30)
    }

    /// Returns the number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Rounds up to a multiple of `granule`, which is not zero.
    pub const fn round_up(self, granule: Bytes) -> Bytes {
        Bytes(self.0.div_ceil(granule.0) * granule.0)
    }

    /// Adds, or returns `None` on overflow.
    pub const fn checked_add(self, other: Bytes) -> Option<Bytes> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Bytes(sum)),
            None => None,
        }
    }

    /// Multiplies by a count, or returns `None` on overflow.
    pub const fn checked_mul(self, count: u64) -> Option<Bytes> {
        match self.0.checked_mul(count) {
            Some(product) => Some(Bytes(product)),
            None => None,
        }
    }

    /// Subtracts, stopping at zero.
    pub const fn saturating_sub(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_sub(other.0))
    }

    /// Returns `percent` % of this size, rounded down.
    pub fn percent(self, percent: f64) -> Bytes {
        Bytes((self.0 as f64 * percent / 100.0) as u64)
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0 + other.0)
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        self.0 += other.0;
    }
}

impl Sub for Bytes {
    type Output = Bytes;
    fn sub(self, other: Bytes) -> Bytes {
        Bytes(self.0 - other.0)
    }
}

impl SubAssign for Bytes {
    fn sub_assign(&mut self, other: Bytes) {
        self.0 -= other.0;
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        Bytes(iter.map(|b| b.0).sum())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in UNITS {
            if self.0 >= 1 << shift {
                let text = format!("{:.1} {unit}", self.0 as f64 / (1u64 << shift) as f64);
                return f.pad(&text);
            }
        }
        f.pad(&format!("{} B", self.0))
    }
}

/// Why a size could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseBytesError {
    /// A number without a unit.
    #[error("`{0}` has no unit: write {0}GiB, {0}GB, {0}MiB or {0}B")]
    NoUnit(String),
    /// A unit that is not known.
    #[error("`{unit}` in `{text}` is no unit of size: use B, KiB, MiB, GiB, TiB, KB, MB, GB or TB")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The part that is no unit.
        unit: String,
    },
    /// No number where one was expected.
    #[error("`{0}` is not a size: write a number and a unit, such as 40GiB")]
    NotANumber(String),
    /// More than 2^64 - 1 bytes.
    #[error("`{0}` is more bytes than a 64-bit number can count")]
    TooLarge(String),
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Bytes, ParseBytesError> {
        let trimmed = text.trim();
        let split =
            trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..split], trimmed[split..].trim());
        let value: f64 =
            number.parse().map_err(|_| ParseBytesError::NotANumber(text.to_owned()))?;
        let scale: u64 = match unit.to_ascii_lowercase().as_str() {
            "" => return Err(ParseBytesError::NoUnit(trimmed.to_owned())),
            "b" => 1,
            "kib" | "ki" | "k" => 1 << 10,
            "mib" | "mi" | "m" => 1 << 20,
            "gib" | "gi" | "g" => 1 << 30,
            "tib" | "ti" | "t" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => {
                return Err(ParseBytesError::UnknownUnit {
                    text: text.to_owned(),
                    unit: unit.to_owned(),
                });
            }
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole
                .checked_mul(scale)
                .map(Bytes)
                .ok_or_else(|| ParseBytesError::TooLarge(text.to_owned()));
        }
        let bytes = value * scale as f64;
        if bytes >= u64::MAX as f64 {
            return Err(ParseBytesError::TooLarge(text.to_owned()));
        }
        Ok(Bytes(bytes as u64))
    }
}

macro_rules! count {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Exactly one.
            pub const ONE: $name = $name(1);

            /// Wraps a count; zero is not one.
            pub const fn new(count: u64) -> Option<$name> {
                if count == 0 { None } else { Some($name(count)) }
            }

            /// Returns the count, which is at least one.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

count! {
    /// Samples in one forward and backward pass on one device.
    MicroBatch
}
count! {
    /// Micro-batches whose gradients are summed before one optimizer step.
    AccumulationSteps
}

impl AccumulationSteps {
    /// Exactly two: the fewest of which one keeps gradients alive for the next.
    pub const TWO: AccumulationSteps = AccumulationSteps(2);
}

count! {
    /// Replicas that each work on their own samples.
    DataParallelSize
}
count! {
    /// Samples behind one optimizer step: micro-batch x accumulation steps x data-parallel size.
    EffectiveBatch
}

/// Returns a count with its noun: `1 device`, `2 devices`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_is_plural() {
        assert_eq!(counted(1, "other"), "1 other");
        assert_eq!([counted(0, "GPU"), counted(2, "GPU")], ["0 GPUs", "2 GPUs"]);
    }

    #[test]
    fn sizes_print_in_iec_units() {
        assert_eq!(Bytes::new(85_899_345_920).to_string(), "80.0 GiB");
        assert_eq!(Bytes::new(512).to_string(), "512 B");
        assert_eq!(Bytes::mib(3).to_string(), "3.0 MiB");
    }

    #[test]
    fn sizes_parse_with_binary_and_decimal_units() {
        assert_eq!("40GiB".parse(), Ok(Bytes::gib(40)));
        assert_eq!("40 GB".parse(), Ok(Bytes::new(40_000_000_000)));
        assert_eq!("1.5GiB".parse(), Ok(Bytes::mib(1536)));
    }

    #[test]
    fn a_bare_number_is_refused() {
        assert_eq!("40".parse::<Bytes>(), Err(ParseBytesError::NoUnit("40".into())));
        assert!(matches!("-4GiB".parse::<Bytes>(), Err(ParseBytesError::NotANumber(_))));
        assert!(matches!("99999999999TiB".parse::<Bytes>(), Err(ParseBytesError::TooLarge(_))));
    }
}
