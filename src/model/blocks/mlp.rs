//! Feed-forward blocks.

use crate::model::blocks::activation::activation;
use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::config::Activation;
use crate::model::decoder::architecture::Mlp;
use crate::model::graph::Op;

/// A feed-forward block's weights.
#[derive(Debug)]
pub struct MlpBlock<'b> {
    shape: Mlp,
    activation: Activation,
    /// One projection, or gate and up.
    up: Vec<Linear<'b>>,
    down: Linear<'b>,
}

impl<'b> MlpBlock<'b> {
    /// Loads a block's weights; `module` is its own path.
    pub fn load(
        b: &'b Builder,
        shape: Mlp,
        activation: Activation,
        module: &str,
        [hidden, inner]: [u64; 2],
        bias: bool,
    ) -> MlpBlock<'b> {
        let linear = |name, sizes| Linear::load(b, module, name, sizes, bias);
        let (up, down) = match shape {
            Mlp::Gated { .. } => {
                let gate = linear("gate_proj", [inner, hidden]);
                let up = linear("up_proj", [inner, hidden]);
                (vec![gate, up], linear("down_proj", [hidden, inner]))
            }
            Mlp::GatedByNumber { .. } => {
                let gate = linear("w1", [inner, hidden]);
                let down = linear("w2", [hidden, inner]);
                (vec![gate, linear("w3", [inner, hidden])], down)
            }
            Mlp::FusedGated { .. } => {
                let up = linear("gate_up_proj", [2 * inner, hidden]);
                (vec![up], linear("down_proj", [hidden, inner]))
            }
            Mlp::Plain { up, down, .. } => {
                let first = linear(up, [inner, hidden]);
                (vec![first], linear(down, [hidden, inner]))
            }
        };
        MlpBlock { shape, activation, up, down }
    }

    fn activate(&self, b: &'b Builder, name: &str, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(name);
        activation(b, self.activation, x)
    }

    /// Runs it.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let first = self.up[0].run(b, x);
        match self.shape {
            Mlp::Gated { activation } | Mlp::GatedByNumber { activation } => {
                let active = self.activate(b, activation, &first);
                drop(first);
                let up = self.up[1].run(b, x);
                let product = b.mul(&active, &up);
                drop((active, up));
                self.down.run(b, &product)
            }
            Mlp::FusedGated { activation } => {
                // `gate` is a name until the end: it keeps both halves.
                let [gate, up] = b.run_many(Op::Split { dim: -1, parts: 2 }, &[&first]);
                drop(first);
                let product = {
                    let active = self.activate(b, activation, &gate);
                    b.mul(&up, &active)
                };
                drop(up);
                self.down.run(b, &product)
            }
            Mlp::Plain { activation, .. } => {
                let active = self.activate(b, activation, &first);
                drop(first);
                self.down.run(b, &active)
            }
        }
    }
}
