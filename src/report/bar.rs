//! Device memory as a bar and a table: what the peak holds, what lies beside it, what is left.

use crate::memory::trace::Category;
use crate::plan::capacity::Outside;
use crate::plan::result::Estimate;
use crate::report::apportion::apportion;
use crate::report::text::{Paint, precise};
use crate::units::Bytes;

/// Cells of the bar: with its brackets and indent it fills 80 columns.
const CELLS: u64 = 74;

/// One term of a device's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The letter that fills its cells: the bar reads without colour.
    pub letter: char,
    /// ANSI colour number.
    color: u8,
    /// What it is.
    pub label: String,
    /// How much.
    pub bytes: Bytes,
}

/// Returns the terms of an estimate in the order of the bar; their sum is the free memory of the
/// device (or the capacity given), or what would be needed where that is more.
pub fn terms(estimate: &Estimate) -> Vec<Term> {
    let term =
        |letter, color, label: &str, bytes| Term { letter, color, label: label.into(), bytes };
    let footprint = &estimate.footprint;
    let mut terms: Vec<Term> = Category::ALL
        .into_iter()
        .map(|category| {
            let (letter, color) = letter_of(category);
            let bytes = footprint.at_peak.get(&category).copied().unwrap_or_default();
            term(letter, color, &category.name().replace('_', " "), bytes)
        })
        .collect();
    let fragmented = estimate.taken().saturating_sub(footprint.peak_allocated);
    terms.push(term('~', 90, "allocator's rounding and fragments", fragmented));
    let given = estimate.capacity.is_some_and(|capacity| capacity.given);
    let counted = |kind: &Outside| !given || kind.in_allocator();
    for (kind, bytes) in estimate.outside.terms.iter().filter(|(kind, _)| counted(kind)) {
        let (letter, label) = match kind {
            Outside::CudaContext => ('c', "CUDA context (allowance)"),
            Outside::Nccl => ('n', "NCCL (allowance)"),
            Outside::DdpBuckets => ('b', "DDP gradient buckets"),
        };
        terms.push(term(letter, 90, label, *bytes));
    }
    if let Some(capacity) = estimate.capacity {
        terms.push(term('h', 90, "headroom, left free", capacity.headroom));
        let unused = capacity.bytes.saturating_sub(estimate.taken());
        terms.push(term('.', 90, "unused", unused));
    }
    terms.retain(|term| term.bytes > Bytes::ZERO);
    terms
}

fn letter_of(category: Category) -> (char, u8) {
    match category {
        Category::Parameters => ('P', 34),
        Category::Gradients => ('G', 36),
        Category::OptimizerState => ('O', 35),
        Category::Activations => ('A', 32),
        Category::LogitsLoss => ('L', 33),
        Category::OptimizerTemp => ('S', 95),
        Category::Temporaries => ('T', 31),
        Category::Inputs => ('I', 94),
        Category::Workspace => ('W', 96),
    }
}

/// Renders the bar and its table, 80 columns wide.
pub fn render(estimate: &Estimate, paint: Paint) -> String {
    let terms = terms(estimate);
    let sizes: Vec<u64> = terms.iter().map(|term| term.bytes.get()).collect();
    let total = Bytes::new(sizes.iter().sum());
    let cells = apportion(&sizes, CELLS);
    let mut text = String::from("  [");
    for (term, cells) in terms.iter().zip(&cells) {
        let run: String = std::iter::repeat_n(term.letter, *cells as usize).collect();
        text.push_str(&paint.color(term.color, &run));
    }
    text.push_str("]\n");
    let printed = precise(&terms.iter().map(|term| term.bytes).collect::<Vec<_>>(), total);
    for (term, size) in terms.iter().zip(&printed.parts) {
        if size.starts_with("0.00 ") {
            continue;
        }
        let percent = term.bytes.get() as f64 * 100.0 / total.get() as f64;
        let letter = paint.color(term.color, &term.letter.to_string());
        text.push_str(&format!("   {letter} {:<36}{size:>14}{percent:>6.1}%\n", term.label));
    }
    let of = total_label(estimate, total);
    text.push_str(&format!("     {of:<36}{:>14}\n", printed.total));
    text
}

fn total_label(estimate: &Estimate, total: Bytes) -> String {
    match estimate.capacity {
        Some(capacity) if total > capacity.free => {
            format!("= needed; {} is there", capacity.free)
        }
        Some(capacity) if capacity.given => "= the capacity given".to_owned(),
        Some(_) => "= free on the device".to_owned(),
        None => "= needed on the device".to_owned(),
    }
}
