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
