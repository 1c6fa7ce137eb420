//! T5's RMSNorm, which scales and does not shift.

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Dtype, Op};

/// A norm's name and weight.
#[derive(Debug)]
pub struct Norm<'b> {
    name: &'static str,
    weight: Value<'b>,
}

impl<'b> Norm<'b> {
    /// Loads it; `parent` is the path of the module that holds it.
    pub fn load(b: &'b Builder, parent: &str, name: &'static str, width: u64) -> Norm<'b> {
        Norm { name, weight: b.parameter(&format!("{parent}.{name}"), &[width]) }
    }

    /// Runs it over the last dimension: the variance in float32, the product in what that makes it.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(self.name);
        let variance = {
            let squares = {
                let wide = b.run(Op::To { dtype: Dtype::F32 }, &[x]);
                b.run(Op::Pow { exponent: 2 }, &[&wide])
            };
            b.run(Op::Mean { dim: -1 }, &[&squares])
        };
        let mut normed = {
            let shifted = b.add_number(&variance);
            let inverse = b.run(Op::Rsqrt, &[&shifted]);
            drop(shifted);
            b.mul(x, &inverse)
        };
        normed = b.run(Op::ToLike, &[&normed, &self.weight]);
        b.mul(&self.weight, &normed)
    }
}
