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

use crate::model::adapters::{self, Lora};
use crate::model::config::{ModelConfig, Task};
use crate::model::freeze::{Frozen, freeze};
use crate::model::graph::Graph;
use crate::model::options::GraphOptions;
use crate::model::quantize::{Quantize, quantize};
use crate::model::tuning::Tuning;
use crate::trace::Trace;
use setup::{Attention, Checkpointing, Loss, Precision, Setup, Version};

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
    /// A pattern of parameters to freeze that no parameter's name matches, and the names.
    #[error("no parameter's name matches `{pattern}`")]
    NothingFrozen {
        /// The pattern.
        pattern: String,
        /// The parameters' names.
        names: Vec<String>,
    },
    /// Patterns that leave no parameter to train.
    #[error("every parameter is frozen: nothing is left to train")]
    NothingTrained,
    /// A `model_type` that Liger has no fused loss for, or none for its task.
    #[error("Liger has no fused loss for {0}")]
    NoFusedLoss(String),
    /// A quantized model without adapters.
    #[error("weights in {0} cannot be trained, and nothing else is")]
    NothingOnQuantized(&'static str),
    /// Adapters on the head, whose weight alone the fused loss reads.
    #[error(
        "the fused loss reads the weight of lm_head alone: adapters on it would not be trained"
    )]
    HeadIsFused,
    /// A `model_type` of which transformers does not load all in fp16.
    #[error("{0} in fp16 is not supported: transformers keeps a part of it in float32")]
    KeptInFloat32(&'static str),
}

/// Returns the allocations of loading a model and of two optimizer steps.
///
/// # Errors
/// A setup that is not covered yet.
pub fn trace(model: &ModelConfig, setup: &Setup) -> Result<Trace, StepError> {
    trace_tuned(model, &Tuning::default(), setup)
}

/// Returns the same of a model that is not trained whole.
///
/// # Errors
/// A setup that is not covered yet, adapters that no layer of the model is a target of, and patterns
/// that match no parameter or leave none to train.
pub fn trace_tuned(
    model: &ModelConfig,
    tuning: &Tuning,
    setup: &Setup,
) -> Result<Trace, StepError> {
    covered(model, setup)?;
    let mut graph = graph(model, setup);
    if let Some(how) = tuning.quantized {
        quantize_covered(model, tuning, how)?;
        quantize(&mut graph, how);
    }
    match (&tuning.lora, &tuning.frozen) {
        (None, None) => Ok(traced(graph, setup)),
        (None, Some(_)) if !is_causal_decoder(model) => {
            Err(StepError::NotYet(format!("freezing parameters of {}", model.model_type())))
        }
        // `grouped_mm` keeps what the gradients that are asked for need; not worked out.
        (None, Some(_)) if model.has_experts() => {
            Err(StepError::NotYet("freezing parameters of a mixture of experts".to_owned()))
        }
        (None, Some(frozen)) => {
            frozen_graph(&mut graph, frozen, setup)?;
            Ok(traced(graph, setup))
        }
        (Some(lora), None) => Ok(traced(adapted(model, &graph, lora, setup)?, setup)),
        // Adapters freeze all else by themselves.
        (Some(_), Some(_)) => {
            Err(StepError::NotYet("freezing parameters by name beside adapters".to_owned()))
        }
    }
}

/// Freezes what matches.
fn frozen_graph(graph: &mut Graph, frozen: &Frozen, setup: &Setup) -> Result<(), StepError> {
    let names = graph.parameter_names();
    if let Some(pattern) = frozen.idle_pattern(&names) {
        let pattern = pattern.to_owned();
        return Err(StepError::NothingFrozen { pattern, names });
    }
    freeze(graph, frozen);
    // transformers may ask for a gradient of what frozen embeddings return, so that layers recompute.
    if setup.checkpointing.recomputes_layers() && graph.first_embedding_is_frozen() {
        let what = format!("frozen input embeddings with checkpointing {}", setup.checkpointing);
        return Err(StepError::NotYet(what));
    }
    if graph.trained.is_empty() { Err(StepError::NothingTrained) } else { Ok(()) }
}

/// Returns the graph with adapters in it.
fn adapted(
    model: &ModelConfig,
    graph: &Graph,
    lora: &Lora,
    setup: &Setup,
) -> Result<Graph, StepError> {
    if model.task() == Task::SequenceClassification {
        return Err(StepError::NotYet("lora on a classifier".to_owned()));
    }
    if model.has_experts() {
        return Err(StepError::NotYet("lora on a mixture of experts".to_owned()));
    }
    if !is_causal_decoder(model) {
        return Err(StepError::NotYet(format!("lora on {}", model.model_type())));
    }
    if setup.loss == Loss::Fused && lora.is_target(adapters::HEAD) {
        return Err(StepError::HeadIsFused);
    }
    // Never compared with PyTorch.
    if !matches!(setup.checkpointing, Checkpointing::None | Checkpointing::Full) {
        return Err(StepError::NotYet(format!("lora with checkpointing {}", setup.checkpointing)));
    }
    // Layers that are checkpointed want an input that needs a gradient.
    let input_gradients = setup.checkpointing == Checkpointing::Full;
    let autocast = matches!(setup.precision, Precision::AmpBf16 | Precision::AmpFp16);
    adapters::adapt(graph, lora, input_gradients, autocast).ok_or_else(|| {
        StepError::NoTarget(adapters::linears(graph).into_iter().map(str::to_owned).collect())
    })
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
        loss: setup.loss,
        transformers: setup.transformers,
        torch: setup.torch,
    };
    crate::model::build(model, &options)
}

/// Whether it is one of the models that parts and regions of were compared with PyTorch.
fn is_causal_decoder(model: &ModelConfig) -> bool {
    let decodes =
        matches!(model, ModelConfig::Decoder(_) | ModelConfig::Opt(_) | ModelConfig::Gpt2(_));
    decodes && model.task() == Task::CausalLm
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
    if !matches!(setup.checkpointing, Checkpointing::None | Checkpointing::Full)
        && !is_causal_decoder(model)
    {
        return refuse(format!("checkpointing {} on {}", setup.checkpointing, model.model_type()));
    }
    if let Some(head_dim) = model.head_dim()
        && setup.precision.is_half()
        && !head_dim.is_multiple_of(8)
    {
        return refuse(format!("a head size of {head_dim} in 16 bits"));
    }
    if setup.loss == Loss::Fused {
        fused_loss_covered(model, setup)?;
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

/// Refuses quantized models that bitsandbytes' linear layers were not compared in.
fn quantize_covered(model: &ModelConfig, tuning: &Tuning, how: Quantize) -> Result<(), StepError> {
    let refuse = |what: &str| Err(StepError::NotYet(format!("quantize {} {what}", how.name())));
    if tuning.lora.is_none() {
        return Err(StepError::NothingOnQuantized(how.name()));
    }
    match model {
        _ if model.has_experts() => refuse("of a mixture of experts"),
        ModelConfig::Gpt2(_) => refuse("of gpt2, whose layers are no nn.Linear"),
        _ if !is_causal_decoder(model) => refuse(&format!("of {}", model.model_type())),
        _ => Ok(()),
    }
}

/// The first liger-kernel that was read and compared, 0.8.5, refuses transformers before 5.0.
///
/// Source: `MODEL_TYPE_TO_APPLY_LIGER_FN` and the check above it in its `monkey_patch.py`.
fn fused_loss_covered(model: &ModelConfig, setup: &Setup) -> Result<(), StepError> {
    let is_patched = matches!(model, ModelConfig::Decoder(c) if c.family.has_fused_loss());
    if !is_patched {
        return Err(StepError::NoFusedLoss(model.model_type().to_owned()));
    }
    if model.task() != Task::CausalLm {
        let what = format!("{} for {}", model.model_type(), model.task().name());
        return Err(StepError::NoFusedLoss(what));
    }
    if setup.transformers < Version::new(5, 0) {
        return Err(StepError::NotYet("loss fused with transformers before 5.0".to_owned()));
    }
    Ok(())
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
