//! What is alive at once, whatever the allocator does: less than that no device can do with.

use crate::memory::allocator::{Capacity, round_request};
use crate::memory::trace::{Category, Event, Trace};
use crate::units::Bytes;

/// The most bytes of a trace that are alive at once, each block rounded as the allocator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alive {
    /// Of everything.
    pub most: Bytes,
    /// Of weights, gradients, the optimizer's state and what its step needs: they do not grow with
    /// the micro-batch.
    pub held: Bytes,
    /// Of gradients, as requested.
    pub gradients: Bytes,
    /// Of the optimizer's state.
    pub state: Bytes,
    /// Of all but that and what the optimizer's step needs: the same with any optimizer.
    pub passing: Bytes,
}

impl Alive {
    /// Goes through a trace once.
    pub fn of(trace: &Trace) -> Alive {
        let (mut all, mut held, mut gradients) = (0u64, 0u64, 0u64);
        let (mut state, mut passing) = (0u64, 0u64);
        let mut alive = Alive::default();
        for event in &trace.events {
            let (id, born) = match *event {
                Event::Alloc(id) => (id, true),
                Event::Free(id) => (id, false),
            };
            let Some(block) = trace.blocks.get(id.0 as usize) else { continue };
            let bytes = round_request(block.bytes.min(Capacity::UNLIMITED)).get();
            let add = |sum: &mut u64, bytes: u64| {
                *sum = if born { sum.saturating_add(bytes) } else { sum.saturating_sub(bytes) };
            };
            add(&mut all, bytes);
            alive.most = alive.most.max(Bytes::new(all));
            if !grows(block.category) {
                add(&mut held, bytes);
                alive.held = alive.held.max(Bytes::new(held));
            }
            if block.category == Category::Gradients {
                add(&mut gradients, block.bytes.get());
                alive.gradients = alive.gradients.max(Bytes::new(gradients));
            }
            match block.category {
                Category::OptimizerState => {
                    add(&mut state, bytes);
                    alive.state = alive.state.max(Bytes::new(state));
                }
                Category::OptimizerTemp => {}
                _ => {
                    add(&mut passing, bytes);
                    alive.passing = alive.passing.max(Bytes::new(passing));
                }
            }
        }
        alive
    }
}

/// Whether a category grows with the samples, or may: scratch is chosen by sizes.
const fn grows(category: Category) -> bool {
    match category {
        Category::Activations
        | Category::LogitsLoss
        | Category::Temporaries
        | Category::Inputs
        | Category::Workspace => true,
        Category::Parameters
        | Category::Gradients
        | Category::OptimizerState
        | Category::OptimizerTemp => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::trace::{Block, BlockId, Phase};

    #[test]
    fn what_is_alive_at_once_is_told_apart() {
        let block = |kib, category| Block {
            bytes: Bytes::kib(kib),
            category,
            phase: Phase::Forward,
            module: 0,
        };
        let [p, a, g, s, t] = [0, 1, 2, 3, 4].map(BlockId);
        let trace = Trace {
            blocks: vec![
                block(100, Category::Parameters),
                block(50, Category::Activations),
                block(20, Category::Gradients),
                block(200, Category::OptimizerState),
                block(30, Category::OptimizerTemp),
            ],
            events: vec![
                Event::Alloc(p),
                Event::Alloc(a),
                Event::Alloc(g),
                Event::Free(a),
                Event::Alloc(s),
                Event::Alloc(t),
                Event::Free(t),
                Event::Free(g),
            ],
            ..Trace::default()
        };
        let kib = Bytes::kib;
        assert_eq!(
            Alive::of(&trace),
            Alive {
                most: kib(350),
                held: kib(350),
                gradients: kib(20),
                state: kib(200),
                passing: kib(170),
            }
        );
    }
}
