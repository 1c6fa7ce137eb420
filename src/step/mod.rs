//! Setup and graph to trace: the rules of autograd, the optimizers and checkpointing.

mod checkpoint;
mod engine;
mod layout;
mod ops;
mod optimizer;
mod reduce;
mod run;
mod scratch;
pub mod setup;
mod sort;
mod tape;
mod tensor;

use crate::memory::trace::Trace;
use crate::model::config::ModelConfig;
use crate::model::options::GraphOptions;
use setup::{Precision, Setup};

/// What the step's model does not cover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A setup that is part of the design and not yet of the code.
    #[error("{0} is not supported yet")]
    NotYet(String),
}

/// Returns the allocations of loading a model and of two optimizer steps.
///
/// # Errors
/// A setup that is not covered yet.
pub fn trace(model: &ModelConfig, setup: &Setup) -> Result<Trace, StepError> {
    match setup.precision {
        Precision::Fp32 | Precision::Bf16 | Precision::Fp16 => {}
        Precision::AmpBf16 | Precision::AmpFp16 => {
            return Err(StepError::NotYet("autocast".to_owned()));
        }
    }
    let options = GraphOptions {
        batch: setup.micro_batch.get(),
        seq_len: setup.seq_len,
        attention: setup.attention,
        attention_mask: setup.attention_mask,
        transformers: setup.transformers,
        torch: setup.torch,
    };
    let graph = crate::model::build(model, &options);
    Ok(run::run(&graph, setup))
}
