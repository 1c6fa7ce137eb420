//! `nn.Linear`.

use crate::model::builder::{Builder, Value};
use crate::model::graph::Op;

/// A linear layer's name and weights.
#[derive(Debug)]
pub struct Linear<'b> {
    name: &'static str,
    weight: Value<'b>,
    bias: Option<Value<'b>>,
}

impl<'b> Linear<'b> {
    /// Loads a layer's weights; `parent` is the path of the module that holds it.
    pub fn load(
        b: &'b Builder,
        parent: &str,
        name: &'static str,
        [outputs, inputs]: [u64; 2],
        bias: bool,
    ) -> Linear<'b> {
        let module = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        Linear {
            name,
            weight: b.parameter(&module, &[outputs, inputs]),
            bias: bias.then(|| b.parameter(&module, &[outputs])),
        }
    }

    /// Keeps its weights in float32 where the model is loaded in float16.
    #[must_use]
    pub fn not_in_f16(self, b: &'b Builder) -> Linear<'b> {
        b.keep_from_f16([&self.weight].into_iter().chain(&self.bias));
        self
    }

    /// Runs it.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(self.name);
        match &self.bias {
            Some(bias) => b.run(Op::Linear, &[x, &self.weight, bias]),
            None => b.run(Op::Linear, &[x, &self.weight]),
        }
    }

    /// Returns its weight.
    pub fn weight(&self) -> &Value<'b> {
        &self.weight
    }
}
