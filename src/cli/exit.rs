//! Exit codes: CI systems key retry and soft-fail on the number, so these never change meaning.
//!
//! When several apply, the first in this order is returned: [`USAGE`], [`NO_GPU`], [`BROKEN`],
//! [`NOT_MEASURED`], [`DOES_NOT_FIT`], [`NO_EXACT_PLAN`], [`OK`].

/// Done, and it fits.
pub const OK: u8 = 0;
/// Something broke in oomph.
pub const BROKEN: u8 = 1;
/// Usage, or bad input: an argument, a file, a model or a value that cannot be worked with.
pub const USAGE: u8 = 2;
/// It does not fit (`gpus --select`: not that many GPUs).
pub const DOES_NOT_FIT: u8 = 3;
/// No usable GPU or driver.
pub const NO_GPU: u8 = 4;
/// Could not measure: a driver error, a deadline, a missing rank.
pub const NOT_MEASURED: u8 = 5;
/// No exact plan under `--exact`, or numbers whose batch equation is broken.
pub const NO_EXACT_PLAN: u8 = 6;
/// `wait` timed out: worth a retry (`EX_TEMPFAIL` of sysexits.h).
pub const TIMED_OUT: u8 = 75;
/// Interrupted by SIGINT, and cleaned up (128 + 2).
pub const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM, and cleaned up (128 + 15).
pub const TERMINATED: u8 = 143;

/// What a code says of one command, for its help and its manual page.
pub type Meaning = (u8, &'static str);

/// Returns the exit codes of a command, in ascending order, each with what it says of that command;
/// those of all commands together where there is none of that name.
pub fn of(command: &str) -> Vec<Meaning> {
    let own: &[Meaning] = match command {
        "gpus" => &[
            (OK, "at least one GPU was read; with --select, so many have the memory"),
            (DOES_NOT_FIT, "--select: fewer GPUs than that have the memory"),
            (NO_GPU, "no driver, or no such GPU"),
            (NOT_MEASURED, "no GPU could be read"),
        ],
        "wait" => &[
            (OK, "the memory is free"),
            (DOES_NOT_FIT, "the GPUs have less than that in all: waiting will not help"),
            (NO_GPU, "no driver, or no such GPU"),
            (NOT_MEASURED, "what is free could not be read any more"),
            (TIMED_OUT, "time is up: worth another try"),
        ],
        "estimate" => &[
            (OK, "it fits, or nothing was named that it should fit into"),
            (DOES_NOT_FIT, "it does not fit"),
            (NO_GPU, "no driver, or no such GPU, where --gpu asks for a real one"),
            (NOT_MEASURED, "what is free on a GPU could not be read"),
        ],
        "probe" => &[
            (OK, "the micro-batch asked for fits; without one, at least one sample does"),
            (DOES_NOT_FIT, "it does not fit"),
            (NO_GPU, "no driver, or no GPU that can be used"),
            (NOT_MEASURED, "a driver error, a deadline, or a GPU in use without --shared"),
            (INTERRUPTED, INTERRUPT),
            (TERMINATED, TERMINATE),
        ],
        "plan" => &[
            (OK, "there is a plan, and it fits"),
            (DOES_NOT_FIT, "nothing fits, or not the micro-batch asked for"),
            (NO_GPU, "no driver, or no GPU that can be used"),
            (NOT_MEASURED, "a GPU could not be measured"),
            (NO_EXACT_PLAN, "no exact plan under --exact, or a batch equation that is broken"),
            (INTERRUPTED, INTERRUPT),
            (TERMINATED, TERMINATE),
        ],
        "advise" => &[
            (OK, "the setup asked for fits"),
            (DOES_NOT_FIT, "it does not fit, whatever is advised"),
            (NO_GPU, "no driver, or no such GPU"),
            (NOT_MEASURED, "what is free on a GPU could not be read"),
        ],
        "check" => &[
            (OK, "it fits and its batch is what it says; with --exit-zero, whatever was found"),
            (DOES_NOT_FIT, "it does not fit"),
            (NO_GPU, "no driver, or no such GPU (--no-gpu skip lets that pass)"),
            (NOT_MEASURED, "what is free on a GPU could not be read"),
            (NO_EXACT_PLAN, "a batch equation that is broken, or a finding of the --fail-on level"),
        ],
        "trial" => &[
            (OK, "there is a plan, and the command ran with it"),
            (DOES_NOT_FIT, "the command runs out of memory at the smallest size too"),
            (NO_GPU, "no driver, or no GPU that can be used"),
            (NOT_MEASURED, "the command failed otherwise, timed out, or used no GPU"),
            (NO_EXACT_PLAN, "no exact plan under --exact"),
            (INTERRUPTED, INTERRUPT),
            (TERMINATED, TERMINATE),
        ],
        "run" => &[
            (OK, "the command ran: it ended with 0, or --until was seen"),
            (DOES_NOT_FIT, "it ran out of memory; with --strict, also where it went on"),
            (NOT_MEASURED, "it failed otherwise, timed out, or used no GPU"),
            (INTERRUPTED, INTERRUPT),
            (TERMINATED, TERMINATE),
        ],
        "profiles" | "completions" | "man" => &[(OK, "done")],
        _ => &[
            (OK, "done, and it fits"),
            (DOES_NOT_FIT, "it does not fit"),
            (NO_GPU, "no GPU or driver that can be used"),
            (NOT_MEASURED, "could not measure"),
            (NO_EXACT_PLAN, "no exact plan under --exact, or a batch equation that is broken"),
            (TIMED_OUT, "`oomph wait`: time is up"),
            (INTERRUPTED, INTERRUPT),
            (TERMINATED, TERMINATE),
        ],
    };
    let of_all = [
        (BROKEN, "something broke in oomph"),
        (USAGE, "usage, or input that cannot be worked with"),
    ];
    let mut all: Vec<Meaning> = own.iter().copied().chain(of_all).collect();
    all.sort_by_key(|(code, _)| *code);
    all
}

/// What [`INTERRUPTED`] says where there is something to clean up.
const INTERRUPT: &str = "interrupted by Ctrl-C, and cleaned up";
/// What [`TERMINATED`] says.
const TERMINATE: &str = "ended by SIGTERM, and cleaned up";

/// Returns the codes of a command as lines of its help, each up to 80 columns wide.
pub fn help(command: &str) -> String {
    let lines = of(command).into_iter().map(|(code, says)| format!("  {code:>3}  {says}\n"));
    format!("Exit codes:\n{}", lines.collect::<String>())
}
