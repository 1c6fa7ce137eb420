//! RMSNorm in its three kinds, and LayerNorm.

use crate::model::builder::{Builder, Scope, Value};
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Dtype, Op};

/// A norm's kind, name and weights.
#[derive(Debug)]
pub struct Norm<'b> {
    kind: NormKind,
    name: &'static str,
    weight: Value<'b>,
    bias: Option<Value<'b>>,
}

impl<'b> Norm<'b> {
    /// Loads a norm's weights; `parent` is the path of the module that holds it.
    pub fn load(
        b: &'b Builder,
        kind: NormKind,
        parent: &str,
        name: &'static str,
        width: u64,
    ) -> Norm<'b> {
        let module = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        let weight = b.parameter(&module, &[width]);
        let bias = (kind == NormKind::Layer).then(|| b.parameter(&module, &[width]));
        Norm { kind, name, weight, bias }
    }

    /// Loads a LayerNorm's weights, a bias only where it has one.
    pub fn load_layer_norm(
        b: &'b Builder,
        parent: &str,
        name: &'static str,
        width: u64,
        has_bias: bool,
    ) -> Norm<'b> {
        if has_bias {
            return Norm::load(b, NormKind::Layer, parent, name, width);
        }
        let weight = b.parameter(&format!("{parent}.{name}"), &[width]);
        Norm { kind: NormKind::Layer, name, weight, bias: None }
    }

    /// Enters its module.
    pub fn enter(&self, b: &'b Builder) -> Scope<'b> {
        b.enter(self.name)
    }

    /// Returns its weight, (width).
    pub const fn weight(&self) -> &Value<'b> {
        &self.weight
    }

    /// Returns its bias, (width), where it has one.
    pub const fn bias(&self) -> Option<&Value<'b>> {
        self.bias.as_ref()
    }

    /// Runs it over the last dimension.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = self.enter(b);
        let weight = &self.weight;
        match (self.kind, &self.bias) {
            (NormKind::Rms | NormKind::RmsCastLate, _) => rms(b, self.kind, x, weight),
            (NormKind::Gemma, _) => gemma(b, x, weight),
            (NormKind::Layer, Some(bias)) => b.run(Op::LayerNorm, &[x, weight, bias]),
            (NormKind::Layer, None) => b.run(Op::LayerNorm, &[x, weight]),
        }
    }
}

/// `hidden_states * torch.rsqrt(variance + eps)` in float32, by the weight; `variance` is a name
/// until the end.
fn rms<'b>(b: &'b Builder, kind: NormKind, x: &Value<'b>, weight: &Value<'b>) -> Value<'b> {
    let wide = b.run(Op::To { dtype: Dtype::F32 }, &[x]);
    let variance = {
        let squares = b.run(Op::Pow { exponent: 2 }, &[&wide]);
        b.run(Op::Mean { dim: -1 }, &[&squares])
    };
    let normed = {
        let shifted = b.add_number(&variance);
        let inverse = b.run(Op::Rsqrt, &[&shifted]);
        drop(shifted);
        b.mul(&wide, &inverse)
    };
    drop(wide);
    if kind == NormKind::RmsCastLate {
        let product = b.mul(weight, &normed);
        return b.run(Op::ToLike, &[&product, x]);
    }
    let narrow = b.run(Op::ToLike, &[&normed, x]);
    b.mul(weight, &narrow)
}

/// Gemma's norm names no variance: each step's input is gone after it.
fn gemma<'b>(b: &'b Builder, x: &Value<'b>, weight: &Value<'b>) -> Value<'b> {
    let normed = {
        let wide = b.run(Op::To { dtype: Dtype::F32 }, &[x]);
        let squares = b.run(Op::Pow { exponent: 2 }, &[&wide]);
        let mean = b.run(Op::Mean { dim: -1 }, &[&squares]);
        drop(squares);
        let shifted = b.add_number(&mean);
        drop(mean);
        let inverse = b.run(Op::Rsqrt, &[&shifted]);
        drop(shifted);
        b.mul(&wide, &inverse)
    };
    let scaled = {
        let wide = b.run(Op::To { dtype: Dtype::F32 }, &[weight]);
        let shifted = b.add_number(&wide);
        drop(wide);
        b.mul(&normed, &shifted)
    };
    drop(normed);
    b.run(Op::ToLike, &[&scaled, x])
}
