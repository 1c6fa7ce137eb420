//! Small made-up models, as traces of a load and two training steps: enough structure (layers that
//! save activations, gradients, optimizer state, logits) for the allocator to fragment as it does
//! on real ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use oomph::memory::trace::{Block, BlockId, Category, Event, Phase, Trace};
use oomph::units::Bytes;

/// A made-up model.
#[derive(Debug, Clone, Copy)]
pub struct ToyModel {
    pub layers: u64,
    pub hidden: u64,
    pub vocabulary: u64,
    pub tokens: u64,
    pub accumulation: u64,
}

impl ToyModel {
    /// Writes its step at a micro-batch down.
    pub fn trace(&self, micro_batch: u64) -> Trace {
        let mut writer = Writer::default();
        writer.begin(Phase::Load);
        let sizes = self.parameter_sizes();
        for &bytes in &sizes {
            writer.alloc(bytes, Category::Parameters);
        }
        let mut gradients = Vec::new();
        for step in 0..2 {
            for _ in 0..self.accumulation {
                self.micro_step(&mut writer, micro_batch, &sizes, &mut gradients);
            }
            writer.begin(Phase::Optimizer);
            if step == 0 {
                for &bytes in &sizes {
                    writer.alloc(bytes, Category::OptimizerState);
                    writer.alloc(bytes, Category::OptimizerState);
                }
            }
            let temporary: Vec<_> =
                sizes.iter().map(|&bytes| writer.alloc(bytes, Category::OptimizerTemp)).collect();
            writer.free_all(temporary);
            writer.begin(Phase::ZeroGrad);
            writer.free_all(std::mem::take(&mut gradients));
        }
        writer.trace
    }

    fn parameter_sizes(&self) -> Vec<u64> {
        let mut sizes = vec![4 * self.vocabulary * self.hidden];
        for _ in 0..self.layers {
            sizes.extend([12, 4, 16, 16].map(|per_unit| per_unit * self.hidden * self.hidden));
            sizes.extend([4 * self.hidden; 4]);
        }
        sizes
    }

    fn micro_step(
        &self,
        writer: &mut Writer,
        micro_batch: u64,
        sizes: &[u64],
        gradients: &mut Vec<BlockId>,
    ) {
        let rows = micro_batch * self.tokens;
        writer.begin(Phase::Batch);
        let batch = writer.alloc(8 * rows, Category::Inputs);
        writer.begin(Phase::Forward);
        let mut saved = Vec::new();
        for _ in 0..self.layers {
            let wide = writer.alloc(16 * rows * self.hidden, Category::Temporaries);
            for width in [4, 12, 4, 1] {
                let bytes = width * rows * self.hidden;
                saved.push(writer.alloc(bytes, Category::Activations));
            }
            writer.free(wide);
        }
        let logits: Vec<_> = (0..3)
            .map(|_| writer.alloc(4 * rows * self.vocabulary, Category::LogitsLoss))
            .collect();
        writer.begin(Phase::Backward);
        writer.free_all(logits);
        let keep = !gradients.is_empty();
        for (layer, chunk) in saved.chunks(4).enumerate().rev() {
            let flowing = writer.alloc(4 * rows * self.hidden, Category::Temporaries);
            for (place, &id) in chunk.iter().enumerate().rev() {
                for weight in [place, place + 4] {
                    let bytes = sizes[1 + layer * 8 + weight];
                    let gradient = writer.alloc(bytes, Category::Gradients);
                    if keep { writer.free(gradient) } else { gradients.push(gradient) }
                }
                writer.free(id);
            }
            writer.free(flowing);
        }
        writer.free(batch);
    }
}

#[derive(Default)]
struct Writer {
    trace: Trace,
    phase: Option<Phase>,
}

impl Writer {
    fn begin(&mut self, phase: Phase) {
        self.trace.phases.push((self.trace.events.len(), phase));
        self.phase = Some(phase);
    }

    fn alloc(&mut self, bytes: u64, category: Category) -> BlockId {
        let id = BlockId(self.trace.blocks.len() as u32);
        let phase = self.phase.unwrap();
        self.trace.blocks.push(Block { bytes: Bytes::new(bytes), category, phase, module: 0 });
        self.trace.events.push(Event::Alloc(id));
        id
    }

    fn free(&mut self, id: BlockId) {
        self.trace.events.push(Event::Free(id));
    }

    fn free_all(&mut self, ids: Vec<BlockId>) {
        for id in ids {
            self.free(id);
        }
    }
}
