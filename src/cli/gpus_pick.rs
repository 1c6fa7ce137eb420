//! `oomph gpus --select`: the freest GPUs, as a value for CUDA_VISIBLE_DEVICES.

use crate::cli::error::CliError;
use crate::cli::exit;
use crate::cli::output::Style;
use crate::probe::GpuRow;
use crate::probe::free::{MinFree, Standing, freest, standing};
use crate::report;
use crate::report::wait::{stands, visible_devices};
use crate::units::{Bytes, counted};

/// Returns the value that names the `wanted` freest GPUs, or with `--json` an object around it.
///
/// # Errors
/// When there are not that many, or they are simulated.
pub fn run(
    rows: &[GpuRow],
    wanted: u64,
    min_free: Option<MinFree>,
    style: Style,
) -> Result<String, CliError> {
    let min = min_free.unwrap_or(MinFree::Size(Bytes::ZERO));
    let picked = pick(rows, wanted, min)?;
    Ok(if style.json {
        report::gpus::selection_json(&picked)
    } else {
        format!("{}\n", visible_devices(picked.into_iter()))
    })
}

/// Picks the freest GPUs that have enough free memory.
fn pick(rows: &[GpuRow], wanted: u64, min: MinFree) -> Result<Vec<&GpuRow>, CliError> {
    if rows.iter().any(|row| row.gpu.as_ref().is_ok_and(|gpu| gpu.simulated)) {
        return Err(CliError::usage("--select picks among GPUs that are in this machine")
            .cause("a simulated GPU has no UUID that CUDA_VISIBLE_DEVICES could name")
            .hint("leave --gpu sim:... out; `oomph run --gpu sim:...` starts a program on it"));
    }
    let freest = freest(rows, min);
    match usize::try_from(wanted) {
        Ok(wanted) if wanted <= freest.len() => {
            Ok(freest.into_iter().take(wanted).map(|at| &rows[at]).collect())
        }
        _ => Err(too_few(rows, wanted, freest.len(), min)),
    }
}

/// Says how many there are, and what is wrong with each of the others.
fn too_few(rows: &[GpuRow], wanted: u64, enough: usize, min: MinFree) -> CliError {
    let others = rows.iter().filter(|row| !matches!(standing(row, min), Standing::Enough { .. }));
    let said: Vec<String> = others.map(|row| stands(row, min)).collect();
    let there = counted(rows.len() as u64, "GPU");
    let fact = format!("--select {wanted}: of {there} {enough} can be had");
    // Fewer than asked for is an answer; not to know of any is none.
    let any = rows.iter().any(|row| row.gpu.is_ok());
    let error = CliError::new(if any { exit::DOES_NOT_FIT } else { exit::NOT_MEASURED }, fact);
    let error = if said.is_empty() { error } else { error.cause(said.join("; ")) };
    let passing = rows.iter().filter(|row| {
        matches!(
            standing(row, min),
            Standing::Enough { .. } | Standing::Short { .. } | Standing::Taken
        )
    });
    let could_be = passing.count();
    match usize::try_from(wanted) {
        Ok(wanted) if wanted <= could_be => {
            let size = match min {
                MinFree::Size(Bytes::ZERO) => "SIZE".to_owned(),
                MinFree::Size(size) => size.to_string().replace(' ', ""),
                MinFree::Percent(percent) => format!("{percent}%"),
            };
            error.hint(format!("oomph wait --gpu any:{wanted} --min-free {size}"))
        }
        _ => error.hint("waiting brings no more: ask for fewer, or for less with --min-free"),
    }
}
