//! How the tensors of a trace grow with the micro-batch.

use crate::memory::allocator::{Capacity, round_request};
use crate::memory::trace::{Category, Event, Trace};
use crate::units::Bytes;

/// What the tensors of a trace say of other micro-batches.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    /// The largest micro-batch whose tensors could fit.
    pub bound: u64,
    /// What one sample adds where memory is tightest.
    pub per_sample: Bytes,
    /// The most that is alive at once.
    pub peak: Bytes,
}

/// Returns how the tensors of a trace grow with the micro-batch.
///
/// At each moment activations, logits, temporaries and inputs are taken to grow with it, and all
/// else to stay. Fragmentation is left out, so the bound is mostly a little high.
pub fn growth(trace: &Trace, micro_batch: u64, capacity: Bytes) -> Growth {
    let (mut fixed, mut growing, mut most) = (0u64, 0u64, u64::MAX);
    let (mut tightest, mut peak) = (0, 0u64);
    for event in &trace.events {
        let (id, born) = match *event {
            Event::Alloc(id) => (id, true),
            Event::Free(id) => (id, false),
        };
        let Some(block) = trace.blocks.get(id.0 as usize) else { continue };
        let sum = if grows(block.category) { &mut growing } else { &mut fixed };
        let bytes = round_request(block.bytes.min(Capacity::UNLIMITED)).get();
        if !born {
            *sum = sum.saturating_sub(bytes);
            continue;
        }
        *sum = sum.saturating_add(bytes);
        peak = peak.max(fixed.saturating_add(growing));
        let left = capacity.get().saturating_sub(fixed);
        // Only a moment that is tighter than all before is worth a division.
        let needed = u128::from(growing) * u128::from(most);
        if growing > 0 && needed > u128::from(left) * u128::from(micro_batch) {
            most = (u128::from(left) * u128::from(micro_batch) / u128::from(growing)) as u64;
            tightest = growing;
        }
    }
    let per_sample = Bytes::new(tightest / micro_batch.max(1));
    Growth { bound: most, per_sample, peak: Bytes::new(peak) }
}

fn grows(category: Category) -> bool {
    match category {
        Category::Activations | Category::LogitsLoss | Category::Temporaries | Category::Inputs => {
            true
        }
        Category::Parameters
        | Category::Gradients
        | Category::OptimizerState
        | Category::OptimizerTemp
        | Category::Workspace => false,
    }
}
