//! A mixture of experts that are modules of their own, as transformers 4 has it: the router, then
//! each expert on the rows that were sent to it, added up by row.
//!
//! Routing is taken to be balanced: each expert gets the same number of rows. The one-hot mask of
//! what was chosen, and the search in it, are left out: int64 of (rows, chosen, experts) for the
//! time of one layer.
//!
//! Source: transformers `models/mixtral/modeling_mixtral.py`, `models/qwen3_moe/` of 4.56; the
//! order of what is left is that of the oracle's balanced experts.

use crate::model::blocks::linear::Linear;
use crate::model::blocks::mlp::MlpBlock;
use crate::model::builder::{Builder, Value};
use crate::model::config::{Activation, ExpertsConfig, Family};
use crate::model::decoder::architecture::Mlp;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;

/// A mixture's weights.
#[derive(Debug)]
pub struct ExpertList<'b> {
    config: ExpertsConfig,
    hidden: u64,
    gate: Linear<'b>,
    experts: Vec<MlpBlock<'b>>,
}

impl<'b> ExpertList<'b> {
    /// Loads a mixture's weights; `module` is its own path.
    pub fn load(
        b: &'b Builder,
        family: Family,
        config: &ExpertsConfig,
        activation: Activation,
        hidden: u64,
        module: &str,
    ) -> ExpertList<'b> {
        let shape = match family {
            Family::Mixtral => Mlp::GatedByNumber { activation: "act_fn" },
            _ => Mlp::Gated { activation: "act_fn" },
        };
        let gate = Linear::load(b, module, "gate", [config.count, hidden], false);
        let sizes = [hidden, config.intermediate_size];
        let expert = |index| {
            let path = format!("{module}.experts.{index}");
            MlpBlock::load(b, shape, activation, &path, sizes, false)
        };
        let experts = (0..config.count).map(expert).collect();
        ExpertList { config: config.clone(), hidden, gate, experts }
    }

    /// Runs it; returns the logits of the router too, which the layer holds on to.
    pub fn run(&self, b: &'b Builder, o: &GraphOptions, x: &Value<'b>) -> (Value<'b>, Value<'b>) {
        let (tokens, hidden) = (o.batch * o.seq_len, self.hidden);
        let rows = b.view(x, &[-1, hidden as i64]);
        let logits = self.gate.run(b, &rows);
        let [mut weights, _chosen] = {
            let soft = b.run(Op::Softmax { in_f32: true }, &[&logits]);
            b.run_many(Op::TopK { k: self.config.per_token }, &[&soft])
        };
        weights = {
            let divided = self.config.normalized.then(|| {
                let sum = b.run(Op::SumDim { dim: -1, keep: true }, &[&weights]);
                b.run(Op::Div, &[&weights, &sum])
            });
            b.run(Op::ToLike, &[divided.as_ref().unwrap_or(&weights), &rows])
        };
        let mut out = b.fresh(&[tokens, hidden], Dtype::Model);
        let sent = tokens * self.config.per_token / self.config.count;
        // Names are taken again by the next expert, when what they name is there.
        let mut chosen = b.fresh(&[sent], Dtype::I64);
        let mut _current = None;
        for (index, expert) in self.experts.iter().enumerate() {
            if index > 0 {
                chosen = b.fresh(&[sent], Dtype::I64);
            }
            let fed = {
                let _m = b.enter(&format!("experts.{index}"));
                let selected = {
                    let one = b.run(Op::Unsqueeze { dim: 0 }, &[&rows]);
                    let picked = b.run(Op::IndexRows { dim: 1 }, &[&one, &chosen]);
                    b.reshape(&picked, &[-1, hidden as i64])
                };
                expert.run(b, &selected)
            };
            let current = {
                let fed = fed;
                let column = b.run(Op::Unsqueeze { dim: 2 }, &[&weights]);
                let share = b.run(Op::IndexPairs, &[&column, &chosen, &chosen]);
                b.mul(&fed, &share)
            };
            out = b.run(Op::IndexAdd, &[&out, &chosen, &current]);
            _current = Some(current);
        }
        let sizes = [o.batch, o.seq_len, hidden].map(|n| n as i64);
        (b.reshape(&out, &sizes), logits)
    }
}
