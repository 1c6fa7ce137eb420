//! Frozen linear layers in fewer bits: a transformation of a finished graph, as bitsandbytes' modules
//! take the place of `nn.Linear`, and `peft.prepare_model_for_kbit_training` casts all else to float32.
//!
//! Source: bitsandbytes `nn/modules.py` (`Linear4bit`, `Linear8bitLt`) of 0.50.2, peft
//! `utils/other.py`.

use crate::model::adapters::HEADS;
use crate::model::graph::{Dtype, Graph, Op, Statement};

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

/// Quantizes every linear layer but the output embeddings.
pub fn quantize(graph: &mut Graph, how: Quantize) {
    graph.quantized = Some(how);
    let (op, dtype) = match how {
        Quantize::Int8 => (Op::Linear8bit, Dtype::Int8),
        Quantize::Nf4 => (Op::Linear4bit, Dtype::Nf4),
    };
    let mut is_head = false;
    for statement in &mut graph.statements {
        match statement {
            Statement::Enter(module) | Statement::Leave(module) => {
                is_head = HEADS.contains(&graph.modules[module.0 as usize].as_str());
            }
            Statement::Run { op: run, inputs, .. } if *run == Op::Linear && !is_head => {
                *run = op.clone();
                graph.weights[inputs[1].0 as usize].dtype = dtype;
            }
            _ => {}
        }
    }
}
