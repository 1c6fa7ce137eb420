//! `oomph wait`: until GPUs have enough free memory, or time is up.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::gpu_select::GpuSelector;
use crate::cli::gpus::chosen;
use crate::cli::output::{Answer, Style, write_stderr};
use crate::cli::run::duration;
use crate::cli::values::count;
use crate::device::holder::look_up;
use crate::probe::GpuRow;
use crate::probe::free::{MinFree, Standing, Streaks, standing};
use crate::report;
use crate::report::wait::{Waited, stands, time};
use crate::units::Bytes;

/// Readings in a row with too few GPUs that can say what is free, before waiting is given up.
const BLIND_READINGS: u64 = 3;
/// How often a pipe gets a line.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Arguments of `oomph wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Time up: exit 75, and who holds the memory. Nothing is ever killed.\n\n\
    Examples:\n  oomph wait --min-free 20GiB --gpu any:2 --timeout 1h\n  \
    oomph wait --min-free 80% --gpu sim:h100-80gb --json")]
pub struct Args {
    /// What must be free on each GPU: 20GiB, or 80% of its total
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub min_free: MinFree,
    /// Wait for all of them (all, 0,1, a UUID), for any N of them (any:2), or take sim:NAME
    #[arg(long, value_name = "GPU", default_value = "all")]
    pub gpu: WaitFor,
    /// Give up after this long: 90s, 10m, 2h [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// Read the GPUs this often
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    #[arg(allow_hyphen_values = true)]
    pub interval: Duration,
    /// Ask for enough memory in N readings in a row
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    #[arg(allow_negative_numbers = true)]
    pub stable: u64,
}

/// The value of `--gpu` here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitFor {
    selector: GpuSelector,
    /// How many of them; `None` for all.
    any: Option<u64>,
}

impl FromStr for WaitFor {
    type Err = String;
    fn from_str(text: &str) -> Result<WaitFor, String> {
        let any = match text.trim().strip_prefix("any") {
            Some("") => Some(1),
            Some(rest) => match rest.strip_prefix(':') {
                Some(number) => Some(count(number).map_err(|e| format!("the N of any:N {e}"))?),
                None => return Err(format!("`{text}` is no GPU: write any:2, all, 0,1 or a UUID")),
            },
            None => None,
        };
        let selector = if any.is_some() { GpuSelector::All } else { text.parse()? };
        Ok(WaitFor { selector, any })
    }
}

impl FromStr for MinFree {
    type Err = String;
    fn from_str(text: &str) -> Result<MinFree, String> {
        let Some(number) = text.trim().strip_suffix('%') else {
            return match text.parse() {
                Ok(Bytes::ZERO) => Err("must be above zero: all GPUs have that".to_owned()),
                Ok(size) => Ok(MinFree::Size(size)),
                Err(error) => Err(format!("{error}, or a percentage such as 80%")),
            };
        };
        match number.trim().parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(MinFree::Percent(percent)),
            _ => Err("a percentage must be above 0% and at most 100%".to_owned()),
        }
    }
}

/// Runs `oomph wait`.
///
/// # Errors
/// When the GPUs are not there, could never have as much free, or cannot say what is free.
pub fn run(args: &Args, style: Style) -> Result<Answer, CliError> {
    let waited = wait(args)?;
    let text = if style.json { report::wait::json(&waited) } else { report::wait::render(&waited) };
    let code = if waited.picked.is_some() { exit::OK } else { exit::TIMED_OUT };
    Ok(Answer { text, code })
}

fn wait(args: &Args) -> Result<Waited, CliError> {
    let start = Instant::now();
    let mut rows = chosen(Some(&args.gpu.selector))?.rows;
    let need = need(args, rows.len())?;
    let mut streaks = Streaks::new(args.min_free, need, args.stable);
    let mut progress = Progress::new();
    let (mut readings, mut blind) = (1, 0);
    loop {
        let picked = streaks.read(&rows);
        let time_left = args.timeout.map(|limit| limit.saturating_sub(start.elapsed()));
        let time_up = time_left.is_some_and(|left| left.is_zero());
        if picked.is_none() {
            could_be(args.min_free, need, &rows)?;
            blind = if seeing(args.min_free, &rows) < need { blind + 1 } else { 0 };
            if blind == BLIND_READINGS || (blind > 0 && time_up) {
                progress.clear();
                return Err(unseen(args.min_free, need, &rows));
            }
        }
        if picked.is_some() || time_up {
            progress.clear();
            let holders = if picked.is_none() { holders(&rows) } else { BTreeMap::new() };
            let (min, waited) = (args.min_free, start.elapsed());
            return Ok(Waited { rows, min, need, picked, waited, readings, holders });
        }
        progress.see(start.elapsed(), &rows, args.min_free);
        // The last reading is at the end of the time, not up to an interval before.
        std::thread::sleep(time_left.map_or(args.interval, |left| left.min(args.interval)));
        rows = chosen(Some(&args.gpu.selector))?.rows;
        readings += 1;
    }
}

/// Returns how many GPUs must have enough free.
fn need(args: &Args, there: usize) -> Result<usize, CliError> {
    let Some(any) = args.gpu.any else { return Ok(there) };
    match usize::try_from(any) {
        Ok(any) if any <= there => Ok(any),
        _ => Err(CliError::new(exit::NO_GPU, format!("--gpu any:{any} of {there} visible GPUs"))
            .cause("there are fewer GPUs than are waited for")
            .hint(format!("--gpu any:{there}; `oomph gpus` lists them"))),
    }
}

/// Refuses what no waiting brings about.
fn could_be(min: MinFree, need: usize, rows: &[GpuRow]) -> Result<(), CliError> {
    let hopeless: Vec<&GpuRow> = rows
        .iter()
        .filter(|row| match standing(row, min) {
            Standing::TooSmall { .. } => true,
            Standing::Short { .. } => row.gpu.as_ref().is_ok_and(|gpu| gpu.simulated),
            _ => false,
        })
        .collect();
    if rows.len() - hopeless.len() >= need {
        return Ok(());
    }
    let said: Vec<String> = hopeless.iter().map(|row| stands(row, min)).collect();
    let simulated = hopeless.iter().any(|row| row.gpu.as_ref().is_ok_and(|gpu| gpu.simulated));
    let hint = if simulated {
        "nobody frees a simulated GPU's memory: name another one, or ask for less"
    } else {
        "ask for less with --min-free, or name other GPUs with --gpu"
    };
    let fact = "waiting will not free as much memory";
    Err(CliError::new(exit::DOES_NOT_FIT, fact).cause(said.join("; ")).hint(hint))
}

/// Counts the GPUs that take jobs and can say what is free.
fn seeing(min: MinFree, rows: &[GpuRow]) -> usize {
    rows.iter().filter(|row| !matches!(standing(row, min), Standing::Unusable(_))).count()
}

fn unseen(min: MinFree, need: usize, rows: &[GpuRow]) -> CliError {
    let seen = seeing(min, rows);
    let said: Vec<String> = rows
        .iter()
        .filter(|row| matches!(standing(row, min), Standing::Unusable(_)))
        .map(|row| stands(row, min))
        .collect();
    let fact = match need {
        1 => format!("1 GPU is waited for, and {seen} can be used and read"),
        _ => format!("{need} GPUs are waited for, and {seen} of them can be used and read"),
    };
    CliError::new(exit::NOT_MEASURED, fact)
        .cause(said.join("; "))
        .hint("name others with --gpu 0,1, or wait for fewer with --gpu any:1")
}

fn holders(rows: &[GpuRow]) -> BTreeMap<u32, crate::device::holder::Holder> {
    rows.iter()
        .filter_map(|row| row.gpu.as_ref().ok())
        .flat_map(|gpu| &gpu.processes)
        .map(|process| (process.pid, look_up(process.pid)))
        .collect()
}

/// Says on stderr how the wait stands: one changing line on a terminal, a line a minute in a pipe.
struct Progress {
    terminal: bool,
    next_line: Duration,
}

impl Progress {
    fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), next_line: Duration::ZERO }
    }

    fn see(&mut self, waited: Duration, rows: &[GpuRow], min: MinFree) {
        if !self.terminal && waited < self.next_line {
            return;
        }
        self.next_line = waited + BETWEEN_LINES;
        let said: Vec<String> = rows.iter().map(|row| stands(row, min)).collect();
        let line = format!("waiting for {}: {}", time(waited), said.join("; "));
        if self.terminal {
            // What a terminal of 80 columns would wrap could not be cleared again.
            let line: String = line.chars().take(79).collect();
            write_stderr(&format!("\r\x1b[K{line}"));
        } else {
            write_stderr(&format!("{line}\n"));
        }
    }

    fn clear(&self) {
        if self.terminal {
            write_stderr("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_to_wait_for_parse() {
        let any = |n| Ok(WaitFor { selector: GpuSelector::All, any: Some(n) });
        assert_eq!(("any".parse(), "any:2".parse()), (any(1), any(2)));
        assert_eq!("all".parse(), Ok(WaitFor { selector: GpuSelector::All, any: None }));
        for bad in ["any:0", "any:", "any2", "some"] {
            assert!(bad.parse::<WaitFor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_must_be_free_is_above_zero_and_at_most_all() {
        assert_eq!("20GiB".parse(), Ok(MinFree::Size(Bytes::gib(20))));
        assert_eq!("80%".parse(), Ok(MinFree::Percent(80.0)));
        for bad in ["0%", "101%", "-5%", "nan%", "0GiB", "20", ""] {
            assert!(bad.parse::<MinFree>().is_err(), "{bad}");
        }
    }
}
