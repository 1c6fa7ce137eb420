//! An estimate as text for people.

use crate::model::tuning::Tuning;
use crate::plan::result::Estimate;
use crate::report::bar;
use crate::report::explain::Explained;
use crate::report::text::{Paint, grouped, labelled, section, to_try};
use crate::step::setup::{Allocator, Loss, Optimizer, ZeroGrad};

/// What no estimate covers, said with every one.
pub const NOT_COVERED: [&str; 3] = ["evaluation", "saving a checkpoint", "other programs"];

/// Renders an estimate: the answer, the memory bar, what is explained of it, assumptions and notes.
pub fn render(estimate: &Estimate, explained: &Explained, paint: Paint) -> String {
    let footprint = &estimate.footprint;
    let setup = &estimate.setup;
    let mut text = format!("{}\n", paint.bold(&headline(estimate)));
    let sizes = format!("micro-batch {}, accumulation {}", setup.micro_batch, setup.accumulation);
    text.push_str(&labelled("sizes", &sizes));
    text.push_str(&labelled("setup", &describe(estimate)));
    if let Some(largest) = estimate.largest_micro_batch {
        let line = match largest {
            0 => "not even micro-batch 1 fits".to_owned(),
            _ => format!("micro-batch {largest} fits, no larger one"),
        };
        text.push_str(&labelled("largest", &line));
    }
    for hint in &estimate.hints {
        text.push_str(&to_try(hint));
    }
    text.push_str(&format!(
        "\n  peak allocated  {:>10}   torch.cuda.max_memory_allocated(), in {}\n",
        footprint.peak_allocated.to_string(),
        footprint.peak_phase.name().replace('_', " "),
    ));
    text.push_str(&format!(
        "  peak reserved   {:>10}   torch.cuda.max_memory_reserved(), with room\n",
        footprint.peak_reserved.to_string(),
    ));
    text.push_str(&format!(
        "  least capacity  {:>10}   the least that the caching allocator can do with\n",
        estimate.need().to_string(),
    ));
    text.push_str(&format!(
        "  beside it       {:>10}   {}\n",
        estimate.outside.total().to_string(),
        outside_words(estimate),
    ));
    text.push_str(&memory(estimate, paint));
    text.push_str(&explained.render(paint));
    text.push_str(&closing(estimate, paint));
    text
}

/// Renders the memory bar under its heading.
pub fn memory(estimate: &Estimate, paint: Paint) -> String {
    let phase = estimate.footprint.peak_phase.name().replace('_', " ");
    let heading = format!(
        "Memory at the peak ({phase}) at micro-batch {}, accumulation {}",
        estimate.setup.micro_batch, estimate.setup.accumulation
    );
    format!("\n{}\n{}", paint.bold(&heading), bar::render(estimate, paint))
}

/// Renders assumptions, notes and what is not covered.
pub fn closing(estimate: &Estimate, paint: Paint) -> String {
    let versions = &estimate.versions;
    let mut assumptions = vec![format!(
        "PyTorch {}.{}, transformers {}.{} ({})",
        versions.torch.major,
        versions.torch.minor,
        versions.transformers.major,
        versions.transformers.minor,
        versions.source,
    )];
    assumptions.extend(estimate.assumptions.iter().cloned());
    let mut text = section("Assumptions", &assumptions, paint);
    text.push_str(&section("Notes", &estimate.notes, paint));
    text.push_str(&section("Not covered", &[NOT_COVERED.join(", ")], paint));
    text
}

fn headline(estimate: &Estimate) -> String {
    let need = estimate.need();
    let model = &estimate.model;
    match (estimate.fits(), estimate.capacity) {
        (Some(true), Some(capacity)) => {
            format!("{model} fits: one step needs {need} of the {} it may take", capacity.bytes)
        }
        (_, Some(capacity)) => format!(
            "{model} does not fit: one step needs {need}, and the allocator may take {}",
            capacity.bytes
        ),
        (_, None) => format!("{model}: one step needs {need}"),
    }
}

fn outside_words(estimate: &Estimate) -> String {
    let names: Vec<&str> = estimate.outside.terms.iter().map(|(kind, _)| kind.name()).collect();
    format!("an allowance for {}", names.join(", ").replace('_', " "))
}

/// Describes how a model is trained, sizes of the batch aside.
pub fn describe(estimate: &Estimate) -> String {
    let setup = &estimate.setup;
    let clipped = if setup.clip.is_some() { ", gradients clipped" } else { "" };
    let zeroed = match setup.zero_grad {
        ZeroGrad::None => "",
        ZeroGrad::Zero => ", gradients kept and zeroed",
    };
    // A model without tokens has one.
    let length = match setup.seq_len {
        1 => String::new(),
        tokens => format!("sequence length {}, ", grouped(tokens)),
    };
    let labels =
        setup.label_len.map_or(String::new(), |n| format!("{} target tokens, ", grouped(n)));
    let fused = if setup.loss == Loss::Fused { ", fused loss" } else { "" };
    let expandable = match setup.allocator {
        Allocator::Default => "",
        Allocator::Expandable => ", expandable segments",
    };
    format!(
        "{length}{labels}{}, {}{}{clipped}{zeroed}, checkpointing {}, {} attention{fused}{expandable}",
        setup.precision.name(),
        trained(estimate),
        optimizer_words(setup.optimizer),
        setup.checkpointing,
        setup.attention.name(),
    )
}

/// Returns what is trained as words that end with a comma, where it is not the whole model.
fn trained(estimate: &Estimate) -> String {
    let Tuning { lora, frozen, quantized } = &estimate.tuning;
    let Some(lora) = lora else {
        let frozen = frozen.as_ref().map(|frozen| format!("{frozen} frozen, "));
        return frozen.unwrap_or_default();
    };
    let dropout = match lora.dropout {
        0.0 => String::new(),
        probability => format!(" with dropout {probability}"),
    };
    let targets = lora.targets.to_string();
    let frozen = quantized.map(|how| format!(" of a model in {}", how.name())).unwrap_or_default();
    format!("adapters of rank {} on {targets}{frozen}{dropout}, ", lora.rank)
}

const fn optimizer_words(optimizer: Optimizer) -> &'static str {
    match optimizer {
        Optimizer::AdamW => "AdamW",
        Optimizer::AdamWFused => "fused AdamW",
        Optimizer::AdamWLoop => "AdamW in a loop",
        Optimizer::AdamW8Bit => "8-bit AdamW",
        Optimizer::PagedAdamW8Bit => "paged 8-bit AdamW",
        Optimizer::AdamW8BitHf => "the Trainer's 8-bit AdamW",
        Optimizer::PagedAdamW8BitHf => "the Trainer's paged 8-bit AdamW",
        Optimizer::Sgd => "SGD",
        Optimizer::SgdMomentum => "SGD with momentum",
        Optimizer::Adafactor => "Adafactor",
    }
}
