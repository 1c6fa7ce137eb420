//! Setup and graph to trace: the rules of autograd, the optimizers and checkpointing.

mod alike;
mod autocast;
mod checkpoint;
mod covered;
mod engine;
mod layout;
mod ops;
mod optimizer;
mod recorder;
mod reduce;
mod repeat;
mod run;
mod scaler;
mod scratch;
pub mod setup;
mod sort;
mod stretch;
mod tape;
mod tensor;
pub mod work;

use crate::model::adapters::{self, InputGradients, Lora, Targets};
use crate::model::config::{ModelConfig, Task};
use crate::model::freeze::{Frozen, freeze, freeze_named, require_input_gradient};
use crate::model::graph::Graph;
use crate::model::options::GraphOptions;
use crate::model::quantize::quantize;
use crate::model::tuning::Tuning;
use crate::trace::Trace;
use covered::{covered, quantize_covered};
use setup::{Checkpointing, Loss, Precision, Setup, Version};
use work::Work;

/// What the step's model does not cover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A setup that is part of the design and not yet of the code.
    #[error("{0} is not supported yet")]
    NotYet(String),
    /// Adapters on experts that are one tensor for all.
    #[error(
        "lora on the experts or the router of a mixture is not supported yet with transformers 5"
    )]
    LoraOnExperts,
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
    /// A `model_type` and a task that transformers has a class for in newer versions only.
    #[error("this transformers has no class of {0} for {1} yet")]
    NoClass(&'static str, &'static str),
    /// A `model_type` that Liger has no fused loss for, or none for its task.
    #[error("Liger has no fused loss for {0}")]
    NoFusedLoss(String),
    /// What the package flash-attn does not run.
    #[error("flash-attn does not run {0}")]
    FlashRefuses(&'static str),
    /// A quantized model without adapters.
    #[error("weights in {0} cannot be trained, and nothing else is")]
    NothingOnQuantized(&'static str),
    /// Adapters on the head, whose weight alone the fused loss reads.
    #[error(
        "the fused loss reads the weight of lm_head alone: adapters on it would not be trained"
    )]
    HeadIsFused,
    /// Adapters on a layer that is trained whole, which peft refuses.
    #[error("peft puts no adapter on {0}, of which a copy is trained (modules_to_save)")]
    AdapterOnHead(String),
    /// Adapters on a Swin whose layers are checkpointed.
    #[error(
        "transformers fails at adapters on swin with checkpointing: it asks a tuple for a gradient"
    )]
    PatchesWantNoGradient,
    /// A `model_type` whose attention fills scores in autocast's 16 bits with float32's least number, which
    /// quantized layers make it do.
    #[error(
        "transformers fails at quantized {0} under autocast: its attention fills scores of 16 bits as if they had 32"
    )]
    FillsTooWide(&'static str),
    /// A regression of a model in 16 bits, at whose gradient PyTorch fails.
    #[error("PyTorch before 2.15 fails at a regression in 16 bits: its labels are in float32")]
    HalfRegression,
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
    let graph = tuned(model, tuning, setup)?;
    Ok(traced(graph, &as_run(model, setup)))
}

/// Returns the arithmetic of one micro-step.
///
/// # Errors
/// As [`trace_tuned`].
pub fn work(model: &ModelConfig, tuning: &Tuning, setup: &Setup) -> Result<Work, StepError> {
    Ok(work::of(&tuned(model, tuning, setup)?, &as_run(model, setup)))
}

/// Returns the setup that transformers makes of the one asked for: it checkpoints no layer of a model
/// whose code does not look whether it should.
fn as_run(model: &ModelConfig, setup: &Setup) -> Setup {
    let whole = matches!(setup.checkpointing, Checkpointing::Full | Checkpointing::Every(_));
    match whole && model.ignores_checkpointing(setup.transformers) {
        true => Setup { checkpointing: Checkpointing::None, ..*setup },
        false => *setup,
    }
}

/// Returns the graph of a model as it is trained.
fn tuned(model: &ModelConfig, tuning: &Tuning, setup: &Setup) -> Result<Graph, StepError> {
    covered(model, setup)?;
    let mut graph = graph(model, setup);
    if let Some(how) = tuning.quantized {
        quantize_covered(model, tuning, setup, how)?;
        quantize(&mut graph, how, setup.transformers);
    }
    match (&tuning.lora, &tuning.frozen) {
        (None, None) => Ok(graph),
        (None, Some(frozen)) => {
            frozen_graph(model, &mut graph, frozen, setup)?;
            Ok(graph)
        }
        (Some(lora), None) => adapted(model, &graph, lora, setup),
        (Some(lora), Some(frozen)) => {
            let mut graph = adapted(model, &graph, lora, setup)?;
            let names = adapters::parameter_names(&graph);
            frozen_beside(&mut graph, frozen, names)?;
            Ok(graph)
        }
    }
}

/// Freezes what matches.
fn frozen_graph(
    model: &ModelConfig,
    graph: &mut Graph,
    frozen: &Frozen,
    setup: &Setup,
) -> Result<(), StepError> {
    let names = graph.parameter_names();
    if let Some(pattern) = frozen.idle_pattern(&names) {
        let pattern = pattern.to_owned();
        return Err(StepError::NothingFrozen { pattern, names });
    }
    freeze(graph, frozen);
    if checkpointing_asks_inputs(model, setup) && graph.input_table_is_frozen() {
        require_input_gradient(graph);
    }
    if graph.trained.is_empty() { Err(StepError::NothingTrained) } else { Ok(()) }
}

/// Whether `gradient_checkpointing_enable` asks for a gradient of what the input embeddings return, whoever trains
/// what: from transformers 5 on, of a model whose `main_input_name` is `input_ids`.
///
/// Source: transformers 5.23 `modeling_utils.py` (`_set_gradient_checkpointing`).
fn checkpointing_asks_inputs(model: &ModelConfig, setup: &Setup) -> bool {
    let reads_ids = !matches!(model.task(), Task::ImageClassification | Task::SpeechSeq2Seq);
    setup.checkpointing.recomputes_layers() && setup.transformers >= Version::new(5, 0) && reads_ids
}

/// Freezes adapters that match; all else is frozen already, but a pattern may name it.
fn frozen_beside(graph: &mut Graph, frozen: &Frozen, names: Vec<String>) -> Result<(), StepError> {
    if let Some(pattern) = frozen.idle_pattern(&names) {
        let pattern = pattern.to_owned();
        let names = names.into_iter().filter(|name| !name.is_empty()).collect();
        return Err(StepError::NothingFrozen { pattern, names });
    }
    freeze_named(graph, &names, frozen);
    if graph.trained.is_empty() { Err(StepError::NothingTrained) } else { Ok(()) }
}

/// Returns the graph with adapters in it.
fn adapted(
    model: &ModelConfig,
    graph: &Graph,
    lora: &Lora,
    setup: &Setup,
) -> Result<Graph, StepError> {
    if model.has_experts() && setup.transformers >= Version::new(5, 0) {
        experts_left_alone(lora)?;
    }
    if setup.loss == Loss::Fused && lora.is_target(adapters::HEADS[0]) {
        return Err(StepError::HeadIsFused);
    }
    let linears = adapters::linears(graph);
    if let Some(head) = linears.iter().find(|name| lora.names_a_head(name)) {
        return Err(StepError::AdapterOnHead((*head).to_owned()));
    }
    // Layers that are checkpointed want an input that needs a gradient: recipes of peft ask for it
    // with all of them, and from transformers 5 on `gradient_checkpointing_enable` always does.
    let of_5 = setup.transformers >= Version::new(5, 0);
    let asks =
        setup.checkpointing == Checkpointing::Full || checkpointing_asks_inputs(model, setup);
    if asks && matches!(model, ModelConfig::Swin(_)) {
        return Err(StepError::PatchesWantNoGradient);
    }
    let input_gradients = match asks {
        true if of_5 => InputGradients::OfEveryPart,
        // BART's halves look up by modules of their own, which the model's is not.
        true if !matches!(model, ModelConfig::Bart(_)) => InputGradients::OfModel,
        _ => InputGradients::No,
    };
    let autocast = matches!(setup.precision, Precision::AmpBf16 | Precision::AmpFp16);
    adapters::adapt(graph, lora, input_gradients, autocast)
        .ok_or_else(|| StepError::NoTarget(linears.into_iter().map(str::to_owned).collect()))
}

/// Refuses adapters on experts that are one tensor for all, which peft takes every linear layer of
/// transformers 4's experts for, and wraps in another way (`ParamWrapper`).
///
/// Source: peft 0.21 `utils/transformers_weight_conversion.py`, `tuners/lora/layer.py`.
fn experts_left_alone(lora: &Lora) -> Result<(), StepError> {
    const WRAPPED: [&str; 10] = [
        "gate",
        "gate_proj",
        "up_proj",
        "down_proj",
        "w1",
        "w2",
        "w3",
        "gate_up_proj",
        "experts",
        "mlp",
    ];
    let are_targets = match &lora.targets {
        Targets::AllLinear => true,
        Targets::Named(names) => names.iter().any(|name| {
            let last = name.rsplit('.').next().unwrap_or_default();
            WRAPPED.contains(&last)
        }),
    };
    if are_targets { Err(StepError::LoraOnExperts) } else { Ok(()) }
}

/// Runs a graph; the names of its modules and the setup's allocator go over to the trace.
fn traced(graph: Graph, setup: &Setup) -> Trace {
    let trace = run::run(&graph, setup);
    Trace { modules: graph.modules, allocator: setup.allocator_mode(), ties: setup.ties(), ..trace }
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
