//! Low-rank adapters on linear layers: a transformation of a finished graph, as `peft` wraps the
//! modules of a finished model.
//!
//! Source: peft `tuners/lora/layer.py` (`Linear`), `tuners/tuners_utils.py` of 0.17 and 0.21.

mod adapting;

use std::collections::BTreeSet;
use std::fmt;

use adapting::Adapting;

use crate::model::config::Task;
use crate::model::graph::{Graph, ModuleId, Op, Statement, ValueId, Weight};

/// Which linear layers get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Every one but the output embeddings (`target_modules="all-linear"`) and a classifier's head, of which a copy is
    /// trained (`exclude_modules`, where peft does not leave it out by itself).
    AllLinear,
    /// Those whose name, or the end of it after a dot, is one of these.
    Named(Vec<String>),
}

impl fmt::Display for Targets {
    /// As the command line spells them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Targets::AllLinear => f.write_str("all-linear"),
            Targets::Named(names) => f.write_str(&names.join("+")),
        }
    }
}

/// Adapters: all that `peft.LoraConfig` says about memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Rows of A, columns of B.
    pub rank: u64,
    /// Dropout on what A reads.
    pub dropout: f64,
    /// Where.
    pub targets: Targets,
}

impl Lora {
    /// Whether the linear layer of that name gets an adapter.
    pub fn is_target(&self, module: &str) -> bool {
        match &self.targets {
            Targets::AllLinear => {
                !OUTPUT_EMBEDDINGS.contains(&module) && copied_head(module).is_none()
            }
            Targets::Named(_) => self.names(module) && copied_head(module).is_none(),
        }
    }

    /// Whether a layer is named that is itself what a copy is trained of, where peft refuses an adapter.
    ///
    /// Source: peft `utils/other.py` (`ModulesToSaveWrapper.check_module`).
    pub fn names_a_head(&self, module: &str) -> bool {
        copied_head(module) == Some(module) && self.names(module)
    }

    fn names(&self, module: &str) -> bool {
        let Targets::Named(names) = &self.targets else { return false };
        names.iter().any(|name| {
            let rest = module.strip_suffix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

/// The output embeddings of every causal decoder that is built in; GPT-NeoX has another name for them on
/// transformers 4.
pub const HEADS: [&str; 2] = ["lm_head", "embed_out"];

/// What `get_output_embeddings()` returns, by its name in the models that are built in.
pub const OUTPUT_EMBEDDINGS: [&str; 7] = [
    HEADS[0],
    HEADS[1],
    "cls.predictions.decoder",
    "lm_head.decoder",
    "vocab_projector",
    "decoder",
    "proj_out",
];

/// Returns the part of a classifier's head that a module is or lies in: the module of which a copy is trained in place
/// of it (`task_type=SEQ_CLS` or `TOKEN_CLS`, or `modules_to_save=["classifier"]`).
///
/// Source: peft `peft_model.py` (`PeftModelForSequenceClassification`, `PeftModelForTokenClassification`),
/// `utils/other.py` (`_set_trainable`, `ModulesToSaveWrapper`): every module whose name ends so, the outermost ones.
pub fn copied_head(module: &str) -> Option<&str> {
    let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
    let mut modules = ends.map(|end| &module[..end]);
    modules.find(|module| COPIED_HEADS.iter().any(|name| module.ends_with(name)))
}

/// Returns what peft is told to train such a copy, of a task that has a classifier.
///
/// Source: peft `peft_model.py`; for images its guide of image classification.
pub fn copies_head(task: Task) -> Option<&'static str> {
    match task {
        Task::SequenceClassification => Some("task_type=\"SEQ_CLS\""),
        Task::TokenClassification => Some("task_type=\"TOKEN_CLS\""),
        Task::ImageClassification => Some("modules_to_save=[\"classifier\"]"),
        Task::CausalLm | Task::MaskedLm | Task::Seq2SeqLm | Task::SpeechSeq2Seq => None,
    }
}

/// How the names of classifiers' heads end.
const COPIED_HEADS: [&str; 2] = ["classifier", "score"];

/// Returns the name of each weight as `named_parameters()` of the model with adapters has it, in the
/// order of loading; "" for buffers.
pub fn parameter_names(graph: &Graph) -> Vec<String> {
    let adapted: BTreeSet<&str> =
        graph.modules.iter().filter_map(|name| name.strip_suffix(".lora_A")).collect();
    let name = |weight: &Weight| {
        let module = graph.modules[weight.module.0 as usize].as_str();
        let own = match module {
            _ if weight.name.is_empty() => return String::new(),
            _ if module.ends_with(".lora_A") || module.ends_with(".lora_B") => ".default",
            _ if adapted.contains(module) => ".base_layer",
            _ => "",
        };
        let (head, rest) = match copied_head(module) {
            Some(head) => {
                let copy =
                    if weight.trained { ".modules_to_save.default" } else { ".original_module" };
                (format!("{head}{copy}"), &module[head.len()..])
            }
            None => (String::new(), module),
        };
        match module {
            "" => format!("base_model.model.{}", weight.name),
            _ => format!("base_model.model.{head}{rest}{own}.{}", weight.name),
        }
    };
    graph.weights.iter().map(name).collect()
}

/// A linear layer in a graph.
#[derive(Debug)]
struct Site {
    module: String,
    /// Its forward.
    entered: ModuleId,
    /// What the module is given.
    input: ValueId,
    /// What it returns.
    output: ValueId,
    /// The statement that ends it.
    leave: usize,
    inputs: i64,
    outputs: i64,
    /// Whether its weight is one of bitsandbytes'.
    is_quantized: bool,
}

/// Whose input embeddings are asked for a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputGradients {
    /// Nobody's.
    No,
    /// The model's: before transformers 5.
    OfModel,
    /// Those of every part that is a model of its own, such as an encoder: from transformers 5 on.
    OfEveryPart,
}

/// Returns the names of the linear layers of a graph, in order.
pub fn linears(graph: &Graph) -> Vec<&str> {
    let name = |site: Site| graph.modules[site.entered.0 as usize].as_str();
    sites(graph, |_| true).into_iter().map(name).collect()
}

/// Freezes a model and gives its target layers adapters.
///
/// `autocast` is whether autocast is on, which adapters on quantized layers ask.
///
/// Where `input_gradients` are asked for (`enable_input_require_grads`), what the input embeddings return needs a
/// gradient though their weight is frozen, as checkpointed layers want it.
///
/// Returns `None` where no layer is a target.
pub fn adapt(
    graph: &Graph,
    lora: &Lora,
    input_gradients: InputGradients,
    autocast: bool,
) -> Option<Graph> {
    let sites = sites(graph, |module| lora.is_target(module));
    if sites.is_empty() {
        return None;
    }
    let embedded = match input_gradients {
        InputGradients::No => Vec::new(),
        InputGradients::OfModel => graph.embedded(false),
        InputGradients::OfEveryPart => graph.embedded(true),
    };
    let mut adapting = Adapting::new(graph, lora, sites, embedded);
    adapting.autocast = autocast;
    Some(adapting.run())
}

/// Finds linear layers: modules without others in them that run one matrix product with a weight.
fn sites(graph: &Graph, wanted: impl Fn(&str) -> bool) -> Vec<Site> {
    let mut found = Vec::new();
    let mut module = 0;
    let mut input = None;
    let mut output = None;
    let mut weight = None;
    let mut is_quantized = false;
    for (index, statement) in graph.statements.iter().enumerate() {
        match statement {
            Statement::Enter(entered) => {
                module = entered.0;
                (input, output, weight) = (None, None, None);
                is_quantized = false;
            }
            Statement::Run { op, inputs, outputs } => {
                input = input.or(inputs.first().copied());
                output = outputs.first().copied();
                weight = match op {
                    Op::Linear | Op::Linear4bit | Op::Linear8bit => Some((inputs[1], false)),
                    Op::Addmm => Some((inputs[2], true)),
                    _ => weight,
                };
                is_quantized |= matches!(op, Op::Linear4bit | Op::Linear8bit);
            }
            Statement::Leave(outer) => {
                let name = &graph.modules[module as usize];
                if let (Some(input), Some(output), Some((value, turned))) =
                    (input.take(), output.take(), weight.take())
                    && wanted(name)
                {
                    let sizes = &graph.weights[value.0 as usize].sizes;
                    let [first, second] = [sizes[0], sizes[1]];
                    let (inputs, outputs) = if turned { (first, second) } else { (second, first) };
                    let (entered, leave) = (ModuleId(module), index);
                    found.push(Site {
                        module: name.clone(),
                        entered,
                        input,
                        output,
                        leave,
                        inputs,
                        outputs,
                        is_quantized,
                    });
                }
                module = outer.0;
            }
            _ => {}
        }
    }
    found
}
