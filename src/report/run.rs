//! What a run on GPUs came to, as text and as JSON (`oomph.run/1`).

use comfy_table::Table;
use serde_json::{Value, json};

use crate::report::text::{Paint, labelled, lines, section, table};
use crate::trial::outcome::{Ending, GpuPeak, Outcome, ProcessPeak, Verdict};
use crate::units::Bytes;

/// The most GPUs and processes that are listed; JSON has all.
const SHOWN: usize = 16;
/// Lines of a failed command's output that are shown again.
const TAIL: usize = 12;

/// What every run on simulated GPUs says of itself.
const SIMULATED: &str = "simulated: no GPU was used. Allocations are the program's own; kernels did \
     nothing, so values are zeros and times mean nothing";

/// Renders a run: the verdict first, then the peaks, then what to trust.
pub fn render(outcome: &Outcome, paint: Paint) -> String {
    let mut text = format!("\n{}\n\n", paint.bold(&headline(outcome)));
    text.push_str(&labelled("why", &outcome.reason));
    text.push_str(&labelled("command", &outcome.command.join(" ")));
    text.push_str(&labelled("time", &seconds(outcome.seconds)));
    if !outcome.versions.is_empty() {
        let versions = outcome.versions.iter().map(|(name, version)| format!("{name} {version}"));
        text.push_str(&labelled("met", &versions.collect::<Vec<_>>().join(", ")));
    }
    text.push_str(&gpus(&outcome.gpus, paint));
    text.push_str(&processes(&outcome.processes, paint));
    if matches!(outcome.verdict, Verdict::Failed | Verdict::TimedOut) {
        text.push_str(&tail(&outcome.tail, paint));
    }
    text.push_str(&section("Keep in mind", &worth(outcome), paint));
    text
}

/// Returns the last lines that a command printed, under a heading.
pub fn tail(lines: &[String], paint: Paint) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", paint.bold("The last lines that it printed"));
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        text.push_str(&format!("  | {line}\n"));
    }
    text
}

fn headline(outcome: &Outcome) -> String {
    let on = match outcome.gpus.as_slice() {
        [] => String::new(),
        [gpu] => format!(" on {}{}", gpu.name, kind(gpu)),
        [gpu, ..] => format!(" on {} x {}{}", outcome.gpus.len(), gpu.name, kind(gpu)),
    };
    match (outcome.verdict, outcome.tightest()) {
        (Verdict::Ran, _) if outcome.left_gpus_alone() => {
            "no GPU was used: no verdict about memory".to_owned()
        }
        (Verdict::Ran, Some(gpu)) if outcome.met_out_of_memory => {
            format!("out of memory{on}, and went on: peak {} of {}", gpu.peak_bytes, gpu.free_bytes)
        }
        (Verdict::Ran, Some(gpu)) => {
            format!("ran{on}: peak {} of {}", gpu.peak_bytes, gpu.free_bytes)
        }
        (Verdict::Ran, None) => format!("ran{on}"),
        (Verdict::OutOfMemory, _) => format!("out of memory{on}"),
        (Verdict::Failed, _) => format!("failed{on}: no verdict about memory"),
        (Verdict::TimedOut, _) => format!("timed out{on}: no verdict about memory"),
    }
}

fn kind(gpu: &GpuPeak) -> &'static str {
    if gpu.simulated { " (simulated)" } else { "" }
}

fn seconds(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

/// Tells of each GPU how much was in use, and how much of it is left.
fn gpus(gpus: &[GpuPeak], paint: Paint) -> String {
    let mut table = table(&["GPU", "peak in use", "of", "left at the peak"], &[1, 2, 3]);
    let peaks = || gpus.iter().map(|gpu| gpu.peak_bytes);
    let differ = peaks().min() != peaks().max();
    let worst = |gpu: &GpuPeak| differ && Some(gpu.peak_bytes) == peaks().max();
    let mut named = false;
    for gpu in gpus.iter().take(SHOWN) {
        let mark = if worst(gpu) && !named { "worst" } else { "" };
        named |= !mark.is_empty();
        table.add_row(vec![
            gpu.index.to_string(),
            gpu.peak_bytes.to_string(),
            gpu.free_bytes.to_string(),
            gpu.free_bytes.saturating_sub(gpu.peak_bytes).to_string(),
            mark.to_owned(),
        ]);
    }
    rendered("Memory by GPU", &table, gpus.len(), paint)
}

/// Tells of each process what it held, and what PyTorch says of it; the worst first.
fn processes(processes: &[ProcessPeak], paint: Paint) -> String {
    if processes.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<&ProcessPeak> = processes.iter().collect();
    sorted.sort_by_key(|process| std::cmp::Reverse(process.peak_device_bytes));
    let header = ["process", "rank", "GPU", "on the device", "PyTorch allocated", "reserved"];
    let mut table = table(&header, &[1, 2, 3, 4, 5]);
    let or_none = |bytes: Option<Bytes>| bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
    for process in sorted.into_iter().take(SHOWN) {
        table.add_row(vec![
            process.pid.to_string(),
            process.rank.map_or("-".to_owned(), |rank| rank.to_string()),
            process.gpu.to_string(),
            process.peak_device_bytes.to_string(),
            or_none(process.peak_allocated_bytes),
            or_none(process.peak_reserved_bytes),
        ]);
    }
    rendered("Memory by process, most first", &table, processes.len(), paint)
}

fn rendered(heading: &str, table: &Table, rows: usize, paint: Paint) -> String {
    let mut text = format!("\n{}\n{}", paint.bold(heading), lines(table));
    if rows > SHOWN {
        text.push_str(&format!("  and {} more: --json lists all\n", rows - SHOWN));
    }
    text
}

/// Returns the lines that say what the answer is worth.
fn worth(outcome: &Outcome) -> Vec<String> {
    let simulated = outcome.gpus.iter().any(|gpu| gpu.simulated);
    let mut lines: Vec<String> = simulated.then(|| SIMULATED.to_owned()).into_iter().collect();
    lines.extend(outcome.warnings.iter().cloned());
    lines
}

/// Returns the JSON text; every key is always there.
pub fn json(outcome: &Outcome) -> String {
    format!("{:#}\n", value(outcome))
}

/// Returns the JSON object.
pub fn value(outcome: &Outcome) -> Value {
    json!({
        "schema": "oomph.run/1",
        "command": outcome.command,
        "exit_code": outcome.ending.map(Ending::code),
        "verdict": outcome.verdict.name(),
        "reason": outcome.reason,
        "seconds": outcome.seconds,
        "gpus": outcome.gpus.iter().map(|gpu| json!({
            "index": gpu.index,
            "name": gpu.name,
            "uuid": gpu.uuid,
            "simulated": gpu.simulated,
            "total_bytes": gpu.total_bytes,
            "free_bytes": gpu.free_bytes,
            "peak_bytes": gpu.peak(),
            "peak_source": gpu.source.name(),
        })).collect::<Vec<_>>(),
        "processes": outcome.processes.iter().map(|process| json!({
            "pid": process.pid,
            "rank": process.rank,
            "gpu": process.gpu,
            "peak_device_bytes": process.peak_device_bytes,
            "peak_allocated_bytes": process.peak_allocated_bytes,
            "peak_reserved_bytes": process.peak_reserved_bytes,
            "allocation_retries": process.allocation_retries,
            "refused": process.refused.map(|refused| json!({
                "times": refused.times,
                "wanted_bytes": refused.wanted_bytes,
                "left_bytes": refused.left_bytes,
            })),
        })).collect::<Vec<_>>(),
        "met_out_of_memory": outcome.met_out_of_memory,
        "contended": outcome.contended,
        "versions": outcome.versions,
        "warnings": outcome.warnings,
        "notes": worth(outcome).into_iter().take(1).collect::<Vec<_>>(),
    })
}
