//! Why a step needs what it needs: who holds the bytes at the peak, and how they come and go.

use std::collections::HashMap;

use crate::memory::allocator::Capacity;
use crate::memory::allocator::replay::Run;
use crate::memory::fit::BeyondAnyDevice;
use crate::memory::footprint::live_at_peak;
use crate::memory::trace::{BlockId, Event, Phase, Trace};
use crate::units::Bytes;

/// What the bytes at the peak are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The layer that asked for them: a module's name up to its first number.
    Layer,
    /// The module that asked for them.
    Module,
    /// The phase that they were born in.
    Phase,
    /// Each tensor for itself.
    Tensor,
}

impl By {
    /// Every way, in the order in which the help lists them.
    pub const ALL: [By; 4] = [By::Layer, By::Module, By::Phase, By::Tensor];

    /// Returns the name on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            By::Layer => "layer",
            By::Module => "module",
            By::Phase => "phase",
            By::Tensor => "tensor",
        }
    }
}

/// A part of what is alive at the peak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The layer, module or phase; for a tensor its category and module.
    pub name: String,
    /// What the allocator gave for its blocks.
    pub bytes: Bytes,
    /// How many blocks.
    pub blocks: u64,
}

/// Returns what is alive when allocated bytes are first at their highest, the largest part first;
/// the parts sum to `peak_allocated`.
///
/// # Errors
///
/// [`BeyondAnyDevice`]
pub fn at_peak(trace: &Trace, by: By) -> Result<Vec<Part>, BeyondAnyDevice> {
    let mut parts: Vec<Part> = Vec::new();
    let mut places = HashMap::<String, usize>::new();
    for live in live_at_peak(trace)? {
        let block = &trace.blocks[live.id.0 as usize];
        let module = trace.modules.get(block.module as usize).map_or("", String::as_str);
        let asker = |module: &str| match (block.phase, module) {
            // The module of such a block is the last whose backward began.
            (Phase::Optimizer, _) => "(the optimizer)".to_owned(),
            // The model itself has no name, as in PyTorch's `named_modules()`.
            (_, "") => "(the model)".to_owned(),
            (_, module) => module.to_owned(),
        };
        let name = match by {
            By::Layer => asker(layer(module)),
            By::Module => asker(module),
            By::Phase => block.phase.name().to_owned(),
            By::Tensor if block.phase == Phase::Optimizer => block.category.name().to_owned(),
            By::Tensor => format!("{} of {}", block.category.name(), asker(module)),
        };
        if by == By::Tensor {
            parts.push(Part { name, bytes: live.bytes, blocks: 1 });
            continue;
        }
        let place = *places.entry(name.clone()).or_insert(parts.len());
        if place == parts.len() {
            parts.push(Part { name, bytes: Bytes::ZERO, blocks: 0 });
        }
        parts[place].bytes += live.bytes;
        parts[place].blocks += 1;
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    Ok(parts)
}

/// Returns a module's name up to its first number: `model.layers.0` of `model.layers.0.mlp`.
fn layer(module: &str) -> &str {
    let mut end = 0;
    for part in module.split('.') {
        end += part.len();
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            return &module[..end];
        }
        end += 1;
    }
    module
}

/// How the memory of loading a model and of two optimizer steps comes and goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Every phase, in order.
    pub spans: Vec<Span>,
    /// The most bytes allocated in each of equal shares of the events; the last may be shorter.
    pub curve: Vec<Bytes>,
    /// How many events a share of `curve` has.
    pub events_a_point: usize,
}

/// One phase of a [`Timeline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The phase.
    pub phase: Phase,
    /// The first of its events: an index into [`Trace::events`].
    pub first_event: usize,
    /// The most bytes allocated while it lasts.
    pub peak_allocated: Bytes,
    /// What is allocated at its end.
    pub allocated: Bytes,
    /// What the allocator holds in segments at its end.
    pub reserved: Bytes,
}

/// Returns the timeline of a trace on a device with room to spare, with a curve of `points`.
///
/// # Errors
///
/// [`BeyondAnyDevice`]
pub fn timeline(trace: &Trace, points: usize) -> Result<Timeline, BeyondAnyDevice> {
    let mut run = Run::new(trace, Capacity::unlimited());
    let mut sizes = vec![Bytes::ZERO; trace.blocks.len()];
    let events = trace.events.len();
    let mut ends: Vec<usize> = trace.phases.iter().skip(1).map(|&(first, _)| first).collect();
    ends.push(events);
    let mut spans = Vec::with_capacity(trace.phases.len());
    for (&(first_event, phase), end) in trace.phases.iter().zip(ends) {
        let replayed = run.advance(end, |id: BlockId, bytes| sizes[id.0 as usize] = bytes);
        BeyondAnyDevice::unless_ran(replayed)?;
        let (allocated, reserved) = run.holds();
        spans.push(Span { phase, first_event, peak_allocated: Bytes::ZERO, allocated, reserved });
    }
    let events_a_point = events.div_ceil(points.max(1)).max(1);
    let mut curve = vec![Bytes::ZERO; events.div_ceil(events_a_point)];
    let (mut allocated, mut at) = (Bytes::ZERO, 0);
    for (index, event) in trace.events.iter().enumerate() {
        while spans.get(at + 1).is_some_and(|next| next.first_event <= index) {
            at += 1;
            spans[at].peak_allocated = allocated;
        }
        match *event {
            Event::Alloc(id) => allocated += sizes[id.0 as usize],
            Event::Free(id) => allocated = allocated.saturating_sub(sizes[id.0 as usize]),
        }
        let point = &mut curve[index / events_a_point];
        *point = allocated.max(*point);
        if let Some(span) = spans.get_mut(at) {
            span.peak_allocated = span.peak_allocated.max(allocated);
        }
    }
    Ok(Timeline { spans, curve, events_a_point })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_a_modules_name_up_to_its_first_number() {
        assert_eq!(layer("model.layers.12.mlp.up_proj"), "model.layers.12");
        assert_eq!(layer("swin.encoder.layers.0.blocks.1.attention"), "swin.encoder.layers.0");
        assert_eq!(layer("lm_head"), "lm_head");
        assert_eq!(layer(""), "");
    }
}
