//! `oomph probe`: the largest micro-batch that fits, by allocations on the device.

use std::time::Duration;

use crate::cli::setup::ModelArgs;

/// Arguments of `oomph probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oomph probe llama-3.2-1b --precision bf16 --seq-len 2048\n  \
    oomph probe gpt2 --precision fp32 --gpu sim:rtx-3090")]
pub struct Args {
    /// The model and its setup.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Probe also a GPU that other programs use: take what is free beside them, for a second
    #[arg(long, help_heading = "Device")]
    pub shared: bool,
    /// Wait this long for another probe of the same GPU [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Device")]
    #[arg(allow_hyphen_values = true)]
    pub lock_timeout: Option<Duration>,
    /// Give up on a GPU after this long [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Device")]
    #[arg(allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// Give up on a driver call after this long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Device")]
    #[arg(allow_hyphen_values = true)]
    pub call_timeout: Option<Duration>,
}

/// Parses `500ms`, `30s`, `5m`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("must be a time with its unit, such as 500ms, 30s or 5m".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "must begin with a whole number".to_owned())?;
    let millis = number.checked_mul(millis).filter(|millis| *millis <= 7 * 24 * 3_600_000);
    millis.map(Duration::from_millis).ok_or("must be a week at most".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit_and_stay_within_a_week() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["5", "-1s", "m", "1.5s", "99999999h", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
