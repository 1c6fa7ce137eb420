//! Frozen linear layers in fewer bits: a transformation of a finished graph, as bitsandbytes' modules
//! take the place of `nn.Linear`, and `peft.prepare_model_for_kbit_training` casts all else to float32.
//!
//! Source: bitsandbytes `nn/modules.py` (`Linear4bit`, `Linear8bitLt`) of 0.50.2, peft
//! `utils/other.py`.

use crate::model::adapters::{OUTPUT_EMBEDDINGS, copied_head};
use crate::model::graph::{Dtype, Graph, Op, Statement};
use crate::model::options::Version;
use crate::model::versions::TRANSFORMERS_5;

/// The format of frozen linear weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantize {
    /// `Linear8bitLt`: 8 bits, a scale for each row.
    Int8,
    /// `Linear4bit`: 4 bits with double quantisation, computed in bfloat16.
    Nf4,
}

impl Quantize {
    /// Returns the name that the command line gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Quantize::Int8 => "int8",
            Quantize::Nf4 => "nf4",
        }
    }
}

/// Quantizes every linear layer but those that transformers leaves as they are: the output embeddings, what stays
/// in float32 (T5's `wo`), and the head of a classifier, of which a copy is trained.
///
/// transformers 5 finds a head by itself where it has no bias; else `llm_int8_skip_modules` has to name it, or
/// peft fails at the copy.
///
/// Source: transformers `quantizers/base.py` (`get_keys_to_not_convert`) of 5.23, `integrations/bitsandbytes.py`
/// of 4.56; run on both for each architecture.
pub fn quantize(graph: &mut Graph, how: Quantize, transformers: Version) {
    graph.quantized = Some(how);
    let (op, dtype) = match how {
        Quantize::Int8 => (Op::Linear8bit, Dtype::Int8),
        Quantize::Nf4 => (Op::Linear4bit, Dtype::Nf4),
    };
    let mut is_kept = false;
    for statement in &mut graph.statements {
        match statement {
            Statement::Enter(module) | Statement::Leave(module) => {
                let module = graph.modules[module.0 as usize].as_str();
                let beside = transformers < TRANSFORMERS_5 && BESIDE_TIED_BIAS.contains(&module);
                is_kept =
                    beside || OUTPUT_EMBEDDINGS.contains(&module) || copied_head(module).is_some();
            }
            Statement::Run { op: run, inputs, .. } if *run == Op::Linear && !is_kept => {
                let weight = &mut graph.weights[inputs[1].0 as usize];
                if weight.dtype != Dtype::NotF16 {
                    *run = op.clone();
                    weight.dtype = dtype;
                }
            }
            _ => {}
        }
    }
}

/// Layers beside a bias that is tied: until transformers 5 the whole module that holds it is left as it is.
const BESIDE_TIED_BIAS: [&str; 2] = ["cls.predictions.transform.dense", "lm_head.dense"];
