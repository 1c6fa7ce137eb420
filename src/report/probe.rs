//! What a probe has found, as text and as JSON (`oomph.probe/1`).

use std::fmt::Write;

use serde_json::{Value, json};

use crate::probe::Room;
use crate::probe::answer::{GpuAnswer, Measured, NotMeasured, ProbeAnswer};
use crate::probe::run::Tried;
use crate::report::text::{Paint, labelled, section, to_try};
use crate::units::{Bytes, MicroBatch};

/// What an answer by allocations is worth.
const PROVES: &str = "a probe proves that the memory is there for the estimated step, with the \
     driver, the context and the neighbours as they are; not that the estimate is right";
/// What an answer on a simulated GPU is worth.
const SIMULATED: &str = "simulated: nothing was allocated, so this rests on the estimate alone";

/// Returns the lines that say what the answer proves.
fn worth(answer: &ProbeAnswer) -> Vec<String> {
    let mut lines = Vec::new();
    if answer.gpus.iter().any(|gpu| gpu.is_probed() && gpu.outcome.is_ok()) {
        lines.push(PROVES.to_owned());
    }
    if answer.gpus.iter().any(|gpu| gpu.simulated) {
        lines.push(SIMULATED.to_owned());
    }
    lines.extend(answer.notes.iter().cloned());
    lines
}

/// Returns the text for people: the answer first, then how it came about on each GPU.
pub fn render(answer: &ProbeAnswer, paint: Paint) -> String {
    let mut text = headline(answer, paint);
    text.extend(answer.hints.iter().map(|hint| to_try(hint)));
    for gpu in &answer.gpus {
        let _ = writeln!(text, "\nGPU {} · {}\n  {}", gpu.index, gpu.name, gpu.uuid);
        match &gpu.outcome {
            Ok(measured) => found(&mut text, gpu, measured),
            Err(failure) => failed(&mut text, failure),
        }
    }
    text.push_str(&section("Assumed", &answer.assumptions, paint));
    text.push_str(&section("Keep in mind", &worth(answer), paint));
    text
}

fn headline(answer: &ProbeAnswer, paint: Paint) -> String {
    let method = answer.method();
    let model = &answer.model;
    let said = match (answer.largest(), answer.wanted) {
        (None, _) => "no answer".to_owned(),
        (Some(largest), Some(wanted)) if largest >= wanted.get() => {
            format!("micro-batch {wanted} fits")
        }
        (Some(0), Some(wanted)) => format!("micro-batch {wanted} does not fit, nor does 1"),
        (Some(largest), Some(wanted)) => {
            format!("micro-batch {wanted} does not fit; the largest is {largest}")
        }
        (Some(0), None) => "does not fit: not even micro-batch 1".to_owned(),
        (Some(largest), None) => format!("largest micro-batch {largest}"),
    };
    format!("{} · {model} · {method}\n", paint.bold(&said))
}

fn found(text: &mut String, gpu: &GpuAnswer, measured: &Measured) {
    let Measured { found, context, kept_free, .. } = measured;
    let answer = found.largest.map_or("none".to_owned(), |size| size.to_string());
    let _ = writeln!(text, "  largest micro-batch {answer}{}", beyond(measured));
    if let Some((low, high)) = found.contended {
        let _ = writeln!(
            text,
            "  contended: memory came and went during the search; answers from {low} to {high}"
        );
    }
    for tried in &found.tried {
        attempt(text, tried);
    }
    let capacity = Room { kept_free: *kept_free, cap: gpu.cap }.of(found.free_before);
    let kernels = kept_free.saturating_sub(gpu.headroom);
    let _ = write!(
        text,
        "  {capacity} to allocate: {} free beside the context ({context}),\n    less {} headroom",
        found.free_before, gpu.headroom
    );
    if kernels > Bytes::ZERO {
        let _ = write!(text, " and {kernels} for kernels and communication");
    }
    if let Some(cap) = gpu.cap.filter(|cap| *cap == capacity) {
        let _ = write!(text, ",\n    and {cap} at most (--capacity)");
    }
    text.push('\n');
    if let Some(why) = &measured.untouched {
        text.push_str(&labelled("nothing was allocated: ", why));
    }
    if let Some(warning) = &measured.warning {
        let _ = writeln!(text, "  warning: {warning}");
    }
}

fn beyond(measured: &Measured) -> &'static str {
    if measured.found.at_limit { " (nothing larger was tried)" } else { "" }
}

fn attempt(text: &mut String, tried: &Tried) {
    let Tried { micro_batch, attempt } = tried;
    let verdict = if attempt.fits { "ran" } else { "out of memory" };
    let _ = writeln!(
        text,
        "    micro-batch {micro_batch:<6} {verdict:<14} {:>10} of segments, {:>10} left",
        attempt.peak_reserved.to_string(),
        attempt.free_at_peak.to_string()
    );
}

fn failed(text: &mut String, failure: &NotMeasured) {
    let _ = writeln!(text, "  not measured: {}", failure.fact);
    for tried in &failure.tried {
        attempt(text, tried);
    }
    if let Some(hint) = &failure.hint {
        let _ = writeln!(text, "  hint: {hint}");
    }
}

/// Returns the JSON object; every key is always there.
pub fn json(answer: &ProbeAnswer) -> String {
    let object = json!({
        "schema": "oomph.probe/1",
        "model": answer.model,
        "method": answer.method(),
        "micro_batch": answer.wanted,
        "fits": answer.fits(),
        "largest_micro_batch": answer.largest(),
        "accumulation_steps": answer.setup.accumulation,
        "seq_len": answer.setup.seq_len,
        "label_len": answer.setup.label_len,
        "gpus": answer.gpus.iter().map(gpu).collect::<Vec<_>>(),
        "versions": {
            "torch": format!("{}.{}", answer.versions.torch.major, answer.versions.torch.minor),
            "transformers": format!(
                "{}.{}",
                answer.versions.transformers.major, answer.versions.transformers.minor
            ),
            "source": answer.versions.source,
        },
        "hints": answer.hints,
        "assumptions": answer.assumptions,
        "notes": worth(answer),
    });
    format!("{object:#}\n")
}

fn gpu(gpu: &GpuAnswer) -> Value {
    let measured = gpu.outcome.as_ref().ok();
    let failure = gpu.outcome.as_ref().err();
    let found = measured.map(|measured| &measured.found);
    let tried = found.map(|found| &found.tried).or(failure.map(|failure| &failure.tried));
    json!({
        "index": gpu.index,
        "name": gpu.name,
        "uuid": gpu.uuid,
        "simulated": gpu.simulated,
        "method": gpu.method(),
        "total_bytes": gpu.total,
        "largest_micro_batch": gpu.largest(),
        "estimated_micro_batch": found.map(|found| found.simulated.map_or(0, MicroBatch::get)),
        "at_limit": found.map(|found| found.at_limit),
        "contended": found.and_then(|found| found.contended).map(|(low, high)| {
            json!({ "smallest_micro_batch": low, "largest_micro_batch": high })
        }),
        "free_before_bytes": found.map(|found| found.free_before),
        "free_after_bytes": found.map(|found| found.free_after),
        "headroom_bytes": gpu.headroom,
        "cap_bytes": gpu.cap,
        "kept_free_bytes": measured.map(|measured| measured.kept_free),
        "context_bytes": measured.map(|measured| measured.context),
        "granule_bytes": measured.map(|measured| measured.granule),
        "driver_calls": measured.map(|measured| measured.driver_calls),
        "attempts": tried.map_or(&[][..], Vec::as_slice).iter().map(|tried| json!({
            "micro_batch": tried.micro_batch,
            "fits": tried.attempt.fits,
            "peak_reserved_bytes": tried.attempt.peak_reserved,
            "free_before_bytes": tried.attempt.free_before,
            "free_at_peak_bytes": tried.attempt.free_at_peak,
        })).collect::<Vec<_>>(),
        "error": failure.map(|failure| &failure.fact),
        "hint": failure.and_then(|failure| failure.hint.as_ref()),
        "untouched": measured.and_then(|measured| measured.untouched.as_ref()),
        "warning": measured.and_then(|measured| measured.warning.as_ref()),
    })
}
