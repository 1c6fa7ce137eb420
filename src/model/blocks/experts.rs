//! A mixture of experts whose weights are one tensor for all, as transformers 5 has it: the router,
//! tokens sorted by expert (`sent.rs`), one product for each expert's rows, and the sum of each token's.
//!
//! With products by group no size depends on where the router sends tokens.
//!
//! Source: transformers `models/mixtral/modeling_mixtral.py`, `models/qwen3_moe/`,
//! `integrations/moe.py` (`grouped_mm_experts_forward`) of 5.0 to 5.24.

use crate::model::blocks::activation::activation;
use crate::model::blocks::sent::Sent;
use crate::model::builder::{Builder, Value};
use crate::model::config::{Activation, ExpertsConfig, Family};
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::versions::{EXPERTS_NAME_LEAST, EXPERTS_NAME_LESS, PROBABILITIES_BESIDE_LOGITS};

/// A mixture's weights.
#[derive(Debug)]
pub struct Experts<'b> {
    config: ExpertsConfig,
    activation: Activation,
    hidden: u64,
    /// Mixtral's router works in float32 to its end; Qwen's weights go back to the model's dtype.
    in_float: bool,
    gate: Value<'b>,
    gate_up: Value<'b>,
    down: Value<'b>,
}

impl<'b> Experts<'b> {
    /// Loads a mixture's weights; `module` is its own path.
    pub fn load(
        b: &'b Builder,
        family: Family,
        config: &ExpertsConfig,
        activation: Activation,
        hidden: u64,
        module: &str,
    ) -> Experts<'b> {
        let (count, inner) = (config.count, config.intermediate_size);
        let load_gate = || b.parameter(&format!("{module}.gate"), &[count, hidden]);
        let load_experts = || {
            let experts = format!("{module}.experts");
            let gate_up = b.named_parameter(&experts, "gate_up_proj", &[count, 2 * inner, hidden]);
            (gate_up, b.named_parameter(&experts, "down_proj", &[count, hidden, inner]))
        };
        let in_float = family == Family::Mixtral;
        let (gate, (gate_up, down)) = if in_float {
            let gate = load_gate();
            (gate, load_experts())
        } else {
            let experts = load_experts();
            (load_gate(), experts)
        };
        let config = config.clone();
        Experts { config, activation, hidden, in_float, gate, gate_up, down }
    }

    /// Runs it.
    pub fn run(&self, b: &'b Builder, o: &GraphOptions, x: &Value<'b>) -> Value<'b> {
        let rows = b.view(x, &[-1, self.hidden as i64]);
        let (_logits, weights, chosen) = {
            let _m = b.enter("gate");
            self.route(b, o, &rows)
        };
        let out = {
            let _m = b.enter("experts");
            self.experts(b, o, &rows, [&weights, &chosen])
        };
        b.reshape(&out, &[o.batch as i64, o.seq_len as i64, self.hidden as i64])
    }

    /// Logits (or, before they were told apart, probabilities), the weights of the chosen experts, and
    /// which they are; (rows, ...) each.
    fn route(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        rows: &Value<'b>,
    ) -> (Value<'b>, Value<'b>, Value<'b>) {
        let logits = b.run(Op::Linear, &[rows, &self.gate]);
        let probabilities = if self.in_float {
            let wide = b.run(Op::To { dtype: Dtype::F32 }, &[&logits]);
            b.run(Op::Softmax { in_f32: false }, &[&wide])
        } else {
            b.run(Op::Softmax { in_f32: true }, &[&logits])
        };
        let logits = (o.transformers >= PROBABILITIES_BESIDE_LOGITS).then_some(logits);
        let op = Op::TopK { k: self.config.per_token };
        let [mut weights, chosen] = b.run_many(op, &[&probabilities]);
        if self.config.normalized {
            let sum = b.run(Op::SumDim { dim: -1, keep: true }, &[&weights]);
            weights = b.run(Op::DivInPlace, &[&weights, &sum]);
        }
        if !self.in_float {
            let like = logits.as_ref().unwrap_or(&probabilities);
            weights = b.run(Op::ToLike, &[&weights, like]);
        }
        (logits.unwrap_or(probabilities), weights, chosen)
    }

    fn experts(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        rows: &Value<'b>,
        [weights, chosen]: [&Value<'b>; 2],
    ) -> Value<'b> {
        let v = o.transformers;
        let mut sent = Sent::new(b, o, &self.config, [rows, weights, chosen]);
        let grouped = |x: &Value<'b>, weight: &Value<'b>| {
            let turned = b.transpose(weight, -2, -1);
            sent.filled(b, b.run(Op::GroupedMm, &[x, &turned, &sent.offsets]))
        };
        let mut out = grouped(&sent.rows, &self.gate_up);
        let gated = self.gated(b, &out);
        let _gate_up = rename(&mut out, gated, v < EXPERTS_NAME_LESS);
        let down = grouped(&out, &self.down);
        let _gated = rename(&mut out, down, v < EXPERTS_NAME_LEAST);
        let mut weighted = {
            let column = b.run(Op::Unsqueeze { dim: 1 }, &[&sent.weights]);
            b.mul(&out, &column)
        };
        let _products = (v >= EXPERTS_NAME_LESS).then_some(out);
        weighted = sent.filled_last(b, weighted);
        let in_order = sent.back(b);
        let in_order = b.run(Op::IndexRows { dim: 0 }, &[&weighted, &in_order]);
        let _by_expert = rename(&mut weighted, in_order, v < EXPERTS_NAME_LESS);
        let split = [o.batch * o.seq_len, self.config.per_token, self.hidden].map(|n| n as i64);
        let summed = {
            let parts = b.view(&weighted, &split);
            b.run(Op::SumDim { dim: 1, keep: false }, &[&parts])
        };
        b.run(Op::ToLike, &[&summed, rows])
    }

    fn gated(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let [gate, up] = b.run_many(Op::Split { dim: -1, parts: 2 }, &[x]);
        let active = {
            let _m = b.enter("act_fn");
            activation(b, self.activation, &gate)
        };
        b.mul(&active, &up)
    }
}

/// Gives a name to what comes next, and returns what it named before where that has a name besides.
fn rename<'b>(name: &mut Value<'b>, next: Value<'b>, keeps: bool) -> Option<Value<'b>> {
    let before = std::mem::replace(name, next);
    keeps.then_some(before)
}
