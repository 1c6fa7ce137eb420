//! Setup and graph to trace: the rules of autograd, the optimizers and checkpointing.

mod autocast;
mod checkpoint;
mod engine;
mod layout;
mod ops;
mod optimizer;
mod reduce;
mod repeat;
mod run;
mod scaler;
mod scratch;
pub mod setup;
mod sort;
mod tape;
mod tensor;

use crate::model::adapters;
use crate::model::config::{ModelConfig, Task};
use crate::model::graph::Graph;
use crate::model::options::GraphOptions;
use crate::model::tuning::Tuning;
use crate::trace::Trace;
use setup::{Attention, Checkpointing, Precision, Setup, Version};

/// What the step's model does not cover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A setup that is part of the design and not yet of the code.
    #[error("{0} is not supported yet")]
    NotYet(String),
    /// A `model_type` that transformers runs with eager attention only.
    #[error("transformers refuses sdpa for {0}: its attention has to be eager")]
    SdpaRefused(&'static str),
    /// A `model_type` whose activations transformers does not checkpoint.
    #[error("transformers refuses gradient checkpointing for {0}")]
    CheckpointingRefused(&'static str),
    /// Adapters for layers that the model does not have; holds the names of those it has.
    #[error("no linear layer is a target of the adapters")]
    NoTarget(Vec<String>),
    /// A `model_type` whose convolutions in bfloat16 are not known on this PyTorch.
    #[error("{0} in bfloat16 is not known yet on a PyTorch after 2.8")]
    NoBfloat16(&'static str),
    /// A `model_type` of which transformers does not load all in fp16.
    #[error("{0} in fp16 is not supported: transformers keeps a part of it in float32")]
    KeptInFloat32(&'static str),
}

/// Returns the allocations of loading a model and of two optimizer steps.
///
/// # Errors
/// A setup that is not covered yet.
pub fn trace(model: &ModelConfig, setup: &Setup) -> Result<Trace, StepError> {
    covered(model, setup)?;
    Ok(traced(graph(model, setup), setup))
}

/// Returns the same of a model that is not trained whole.
///
/// # Errors
/// A setup that is not covered yet, and adapters that no layer of the model is a target of.
pub fn trace_tuned(
    model: &ModelConfig,
    tuning: &Tuning,
    setup: &Setup,
) -> Result<Trace, StepError> {
    let Some(lora) = &tuning.lora else { return trace(model, setup) };
    covered(model, setup)?;
    if model.task() == Task::SequenceClassification {
        return Err(StepError::NotYet("lora on a classifier".to_owned()));
    }
    if model.has_experts() {
        return Err(StepError::NotYet("lora on a mixture of experts".to_owned()));
    }
    if !matches!(model, ModelConfig::Decoder(_) | ModelConfig::Opt(_) | ModelConfig::Gpt2(_)) {
        return Err(StepError::NotYet(format!("lora on {}", model.model_type())));
    }
    let graph = graph(model, setup);
    // Layers that are checkpointed want an input that needs a gradient.
    let input_gradients = setup.checkpointing == Checkpointing::Full;
    match adapters::adapt(&graph, lora, input_gradients) {
        Some(adapted) => Ok(traced(adapted, setup)),
        None => {
            let names = adapters::linears(&graph).into_iter().map(str::to_owned).collect();
            Err(StepError::NoTarget(names))
        }
    }
}

/// Runs a graph; the names of its modules go over to the trace.
fn traced(mut graph: Graph, setup: &Setup) -> Trace {
    let modules = std::mem::take(&mut graph.modules);
    Trace { modules, ..run::run(&graph, setup) }
}

fn graph(model: &ModelConfig, setup: &Setup) -> Graph {
    let options = GraphOptions {
        batch: setup.micro_batch.get(),
        seq_len: setup.seq_len,
        label_len: setup.label_len.unwrap_or(setup.seq_len),
        attention: setup.attention,
        attention_mask: setup.attention_mask,
        transformers: setup.transformers,
        torch: setup.torch,
    };
    crate::model::build(model, &options)
}

/// Refuses what the traces are not right for yet; a wrong answer costs more than none.
fn covered(model: &ModelConfig, setup: &Setup) -> Result<(), StepError> {
    let refuse = |what: String| Err(StepError::NotYet(what));
    if setup.attention == Attention::Sdpa && model.refuses_sdpa(setup.transformers) {
        return Err(StepError::SdpaRefused(model.model_type()));
    }
    if setup.checkpointing != Checkpointing::None && model.refuses_checkpointing() {
        return Err(StepError::CheckpointingRefused(model.model_type()));
    }
    if let Some(head_dim) = model.head_dim()
        && setup.precision.is_half()
        && !head_dim.is_multiple_of(8)
    {
        return refuse(format!("a head size of {head_dim} in 16 bits"));
    }
    match model {
        ModelConfig::Decoder(c) if c.experts.is_some() => experts_covered(setup),
        ModelConfig::Decoder(c) if c.is_regression() => {
            refuse("a regression (a classifier of samples with one label)".to_owned())
        }
        ModelConfig::Encoder(c) if c.is_regression() => {
            refuse("a regression (a classifier of samples with one label)".to_owned())
        }
        // Not run: the oracle's cuDNN refuses depthwise convolutions of bfloat16 there.
        ModelConfig::ConvNext(_)
            if matches!(setup.precision, Precision::Bf16 | Precision::AmpBf16)
                && setup.torch > Version::new(2, 8) =>
        {
            Err(StepError::NoBfloat16(model.model_type()))
        }
        // `_keep_in_fp32_modules`: the MLP's last projection stays in float32.
        ModelConfig::T5(_) if setup.precision == Precision::Fp16 => {
            Err(StepError::KeptInFloat32(model.model_type()))
        }
        ModelConfig::Gpt2(c)
            if c.reorder_and_upcast_attn && setup.attention == Attention::Eager =>
        {
            refuse("reorder_and_upcast_attn".to_owned())
        }
        _ => Ok(()),
    }
}

/// From transformers 5 on, experts are covered where they are multiplied by group: on a PyTorch and
/// a GPU that can.
///
/// Source: `_can_use_grouped_mm` in transformers' `integrations/moe.py`.
fn experts_covered(setup: &Setup) -> Result<(), StepError> {
    let refuse = |what: &str| Err(StepError::NotYet(format!("a mixture of experts {what}")));
    if setup.transformers < Version::new(5, 0) {
        return Ok(());
    }
    if setup.torch < Version::new(2, 9) {
        return refuse("on a PyTorch before 2.9");
    }
    if setup.gpu.compute_capability < (8, 0) {
        return refuse("on a GPU before compute capability 8.0");
    }
    Ok(())
}
