//! Activation functions, as transformers' `ACT2FN` has them.

use crate::model::builder::{Builder, Value};
use crate::model::config::Activation;
use crate::model::graph::Op;

/// The activation between two projections.
pub fn activation<'b>(b: &'b Builder, kind: Activation, x: &Value<'b>) -> Value<'b> {
    match kind {
        Activation::Silu => b.run(Op::Silu, &[x]),
        Activation::Gelu | Activation::GeluPytorchTanh => b.run(Op::Gelu, &[x]),
        Activation::Relu => b.run(Op::Relu, &[x]),
        Activation::Tanh => b.run(Op::Tanh, &[x]),
        Activation::GeluNew => gelu_new(b, x),
        Activation::GeluFast => gelu_fast(b, x),
    }
}

/// `0.5 * x * (1.0 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))`, operator by operator.
fn gelu_new<'b>(b: &'b Builder, x: &Value<'b>) -> Value<'b> {
    let half = b.mul_number(x);
    let cube = b.run(Op::Pow { exponent: 3 }, &[x]);
    let scaled = b.mul_number(&cube);
    drop(cube);
    let sum = b.add(x, &scaled);
    drop(scaled);
    let argument = b.mul_number(&sum);
    drop(sum);
    let tanh = b.run(Op::Tanh, &[&argument]);
    drop(argument);
    let shifted = b.add_number(&tanh);
    drop(tanh);
    b.mul(&half, &shifted)
}

/// `0.5 * x * (1.0 + tanh(x * sqrt(2 / pi) * (1.0 + 0.044715 * x * x)))`, operator by operator.
fn gelu_fast<'b>(b: &'b Builder, x: &Value<'b>) -> Value<'b> {
    let half = b.mul_number(x);
    let scaled = b.mul_number(x);
    let cubic = {
        let small = b.mul_number(x);
        let square = b.mul(&small, x);
        drop(small);
        b.add_number(&square)
    };
    let argument = b.mul(&scaled, &cubic);
    drop((scaled, cubic));
    let tanh = b.run(Op::Tanh, &[&argument]);
    drop(argument);
    let shifted = b.add_number(&tanh);
    drop(tanh);
    b.mul(&half, &shifted)
}
