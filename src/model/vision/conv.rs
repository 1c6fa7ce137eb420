//! `nn.Conv2d` and `nn.BatchNorm2d`.

use crate::model::builder::{Builder, Value};
use crate::model::graph::{Conv2d, Dtype, Op};

/// A convolution's weights.
#[derive(Debug)]
pub struct Convolution<'b> {
    name: &'static str,
    how: Conv2d,
    weight: Value<'b>,
    bias: Option<Value<'b>>,
}

/// The sizes of a convolution's weight.
#[derive(Debug, Clone, Copy)]
pub struct Filters {
    /// Channels that it makes.
    pub outputs: u64,
    /// Channels that it sees.
    pub inputs: u64,
    /// Height and width of a filter.
    pub kernel: [u64; 2],
}

impl Filters {
    /// Square filters.
    pub fn square(inputs: u64, outputs: u64, kernel: u64) -> Filters {
        Filters { outputs, inputs, kernel: [kernel, kernel] }
    }
}

impl<'b> Convolution<'b> {
    /// Loads a convolution's weights; `parent` is the path of the module that holds it.
    pub fn load(
        b: &'b Builder,
        parent: &str,
        name: &'static str,
        filters: Filters,
        how: Conv2d,
        bias: bool,
    ) -> Convolution<'b> {
        let module = format!("{parent}.{name}");
        let [height, width] = filters.kernel;
        let [outputs, inputs] = [filters.outputs, filters.inputs / how.groups];
        let weight = match how.one_row {
            true => b.parameter(&module, &[outputs, inputs, width]),
            false => b.parameter(&module, &[outputs, inputs, height, width]),
        };
        let bias = bias.then(|| b.parameter(&module, &[filters.outputs]));
        Convolution { name, how, weight, bias }
    }

    /// Runs it.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(self.name);
        match &self.bias {
            Some(bias) => b.run(Op::Conv2d(self.how), &[x, &self.weight, bias]),
            None => b.run(Op::Conv2d(self.how), &[x, &self.weight]),
        }
    }

    /// Returns its weight, its module's first parameter.
    pub fn weight(&self) -> &Value<'b> {
        &self.weight
    }
}

/// A batch norm's weights.
#[derive(Debug)]
pub struct BatchNorm<'b> {
    name: &'static str,
    weight: Value<'b>,
    bias: Value<'b>,
}

impl<'b> BatchNorm<'b> {
    /// Loads a norm's weights, and its running mean, variance and count of batches.
    pub fn load(b: &'b Builder, parent: &str, name: &'static str, channels: u64) -> BatchNorm<'b> {
        let module = format!("{parent}.{name}");
        let weight = b.parameter(&module, &[channels]);
        let bias = b.parameter(&module, &[channels]);
        b.buffer(&module, &[channels], Dtype::Model);
        b.buffer(&module, &[channels], Dtype::Model);
        b.buffer(&module, &[], Dtype::I64);
        BatchNorm { name, weight, bias }
    }

    /// Runs it.
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let _m = b.enter(self.name);
        b.run(Op::BatchNorm, &[x, &self.weight, &self.bias])
    }
}
