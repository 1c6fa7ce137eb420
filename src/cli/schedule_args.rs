//! `--ramp-up start=N,increment=N,samples=N` and `--seq-len-schedule N,N,...`.

use std::str::FromStr;

use crate::cli::values::count;
use crate::plan::schedule::RampUp;

/// The most lengths of a schedule.
const MOST_LENGTHS: usize = 64;

/// A value of `--seq-len-schedule`: tokens a sample of each stage, as they are trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LengthsArg(pub Vec<u64>);

impl LengthsArg {
    /// Returns the longest, which decides what fits.
    pub fn longest(&self) -> u64 {
        self.0.iter().copied().max().unwrap_or(1)
    }
}

impl FromStr for LengthsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<LengthsArg, String> {
        let lengths = text.split(',').map(|part| count(part).map_err(|e| format!("`{part}`: {e}")));
        let lengths: Vec<u64> = lengths.collect::<Result<_, _>>()?;
        if lengths.len() < 2 {
            return Err("one length is no schedule: --seq-len says it".to_owned());
        }
        if lengths.len() > MOST_LENGTHS {
            return Err(format!("{} lengths; {MOST_LENGTHS} at most", lengths.len()));
        }
        match lengths.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("{} follows itself", pair[0])),
            None => Ok(LengthsArg(lengths)),
        }
    }
}

/// Reads `--ramp-up`.
///
/// # Errors
/// Names the key that is missing, given twice or not known.
pub fn ramp_up(text: &str) -> Result<RampUp, String> {
    const KEYS: [&str; 3] = ["start", "increment", "samples"];
    let mut found = [None; KEYS.len()];
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            format!("`{part}` is no key=value: start=256,increment=128,samples=5000000")
        })?;
        let key = key.trim();
        let at = KEYS
            .iter()
            .position(|known| *known == key)
            .ok_or_else(|| format!("no key `{key}`: start, increment and samples are known"))?;
        let number = count(value).map_err(|error| format!("{key} {error}"))?;
        if found[at].replace(number).is_some() {
            return Err(format!("`{key}` is given twice"));
        }
    }
    match found {
        [Some(start), Some(increment), Some(samples)] => Ok(RampUp { start, increment, samples }),
        _ => {
            let missing: Vec<&str> =
                KEYS.iter().zip(found).filter(|(_, n)| n.is_none()).map(|(key, _)| *key).collect();
            Err(format!("missing: {}", missing.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_names_all_three_numbers_once() {
        let ramp = RampUp { start: 256, increment: 128, samples: 5_000_000 };
        assert_eq!(ramp_up("start=256,increment=128,samples=5000000"), Ok(ramp));
        for (text, part) in [
            ("256,128,5000000", "no key=value"),
            ("start=256,increment=128", "missing: samples"),
            ("start=1,start=2,increment=1,samples=1", "`start` is given twice"),
            ("start=1,step=2,samples=1", "no key `step`"),
            ("start=0,increment=1,samples=1", "start must be at least 1"),
            ("start=1,increment=-1,samples=1", "increment must be a whole number"),
            ("", "no key=value"),
        ] {
            let error = ramp_up(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn lengths_are_two_at_least_and_change() {
        assert_eq!("2048,4096".parse(), Ok(LengthsArg(vec![2048, 4096])));
        assert_eq!("8192,2048".parse::<LengthsArg>().map(|lengths| lengths.longest()), Ok(8192));
        for (text, part) in [
            ("2048", "--seq-len"),
            ("2048,2048", "follows itself"),
            ("2048,,4096", "``"),
            ("0,2", "at least 1"),
            ("2k,4k", "plain digits"),
        ] {
            let error = text.parse::<LengthsArg>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
