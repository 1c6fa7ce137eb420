//! Tokens as a mixture's experts get them, sorted by expert, and the way back.
//!
//! Source: transformers `integrations/moe.py` (`grouped_mm_experts_forward`) of 5.0 to 5.24.

use crate::model::builder::{Builder, Value};
use crate::model::config::ExpertsConfig;
use crate::model::graph::{Dtype, Op};
use crate::model::options::{GraphOptions, Version};
use crate::model::versions::{
    EXPERTS_ALL_VALID, EXPERTS_COUNT_INTEGERS, EXPERTS_FILL_PRODUCTS, EXPERTS_INVERT_BY_INDEX,
    EXPERTS_MAY_BE_INVALID, EXPERTS_PICK_ONCE, EXPERTS_SORT_ONCE,
};

/// What is sent to the experts: for each token as many rows as it has experts.
#[derive(Debug)]
pub struct Sent<'b> {
    version: Version,
    /// Rows in all.
    count: u64,
    /// The tokens, (rows, hidden).
    pub rows: Value<'b>,
    /// What their outcome is multiplied by, (rows).
    pub weights: Value<'b>,
    /// Where each expert's rows end, (experts).
    pub offsets: Value<'b>,
    /// Where each token's rows are among the sorted, where that is worked out before the experts run.
    back: Option<Value<'b>>,
    /// Which rows were sent to an expert on another device: none is, but it is asked.
    invalid: Option<Value<'b>>,
    /// What has a name until the experts are done, though it is read no more.
    named: Vec<Value<'b>>,
}

impl<'b> Sent<'b> {
    /// Sorts tokens (tokens, hidden) by expert; `weights` and `chosen` are (tokens, experts of each).
    pub fn new(
        b: &'b Builder,
        o: &GraphOptions,
        config: &ExpertsConfig,
        [tokens, weights, chosen]: [&Value<'b>; 3],
    ) -> Sent<'b> {
        let (version, tokens_in_all) = (o.transformers, o.batch * o.seq_len);
        let count = tokens_in_all * config.per_token;
        let by_order = version < EXPERTS_SORT_ONCE;
        let ids = |sizes: &[u64]| b.fresh(sizes, Dtype::I64);
        let mut named = Vec::new();
        let token_of = by_order.then(|| {
            let range = ids(&[tokens_in_all]);
            let column = b.run(Op::Unsqueeze { dim: 1 }, &[&range]);
            let sizes = [tokens_in_all, config.per_token].map(|n| n as i64)[..].into();
            let repeated = b.run(Op::Expand { sizes }, &[&column]);
            b.reshape(&repeated, &[-1])
        });
        let flat_weights = b.reshape(weights, &[-1]);
        let flat_chosen = b.reshape(chosen, &[-1]);
        let mut invalid = None;
        if by_order && version >= EXPERTS_MAY_BE_INVALID {
            invalid = Some(b.fresh(&[count], Dtype::Bool));
            // expert_ids.clamp
            named.push(ids(&[count]));
        }
        let pick =
            |from: &Value<'b>, index: &Value<'b>| b.run(Op::IndexRows { dim: 0 }, &[from, index]);
        let twice =
            token_of.as_ref().filter(|_| version < EXPERTS_PICK_ONCE).map(|of| pick(tokens, of));
        let (order, rows, weights, back);
        match token_of {
            None => {
                let [experts, by_expert] = b.run_many(Op::Sort, &[&flat_chosen]);
                order = by_expert;
                // perm // num_top_k
                rows = pick(tokens, &ids(&[count]));
                weights = pick(&flat_weights, &order);
                back = None;
                named.push(experts);
            }
            Some(token_of) => {
                order = arg_sort(b, &flat_chosen);
                back = Some(match version < EXPERTS_INVERT_BY_INDEX {
                    true => arg_sort(b, &order),
                    false => inverse_by_index(b, count),
                });
                named.push(ids(&[count]));
                weights = pick(&flat_weights, &order);
                rows = match &twice {
                    Some(all) => pick(all, &order),
                    None => pick(tokens, &ids(&[count])),
                };
                named.push(token_of);
            }
        }
        named.extend([order, flat_weights, flat_chosen]);
        named.extend(twice);
        let (offsets, counted) = offsets(b, version, count, config.count);
        named.extend(counted);
        let mut sent = Sent { version, count, rows, weights, offsets, back, invalid, named };
        if !by_order && version < EXPERTS_ALL_VALID {
            let invalid = b.fresh(&[count, 1], Dtype::Bool);
            sent.rows = b.run(Op::MaskedFillInPlace, &[&sent.rows, &invalid]);
            sent.invalid = Some(invalid);
        }
        sent
    }

    /// A product of the rows, with zeros where none was made.
    pub fn filled(&self, b: &'b Builder, product: Value<'b>) -> Value<'b> {
        match &self.invalid {
            Some(invalid) if self.version >= EXPERTS_FILL_PRODUCTS => {
                b.run(Op::MaskedFill, &[&product, invalid])
            }
            _ => product,
        }
    }

    /// The products by their weights, with zeros where none was made.
    pub fn filled_last(&mut self, b: &'b Builder, weighted: Value<'b>) -> Value<'b> {
        let Some(invalid) = self.invalid.as_ref().filter(|_| self.version < EXPERTS_FILL_PRODUCTS)
        else {
            return weighted;
        };
        let fill = |mask: &Value<'b>| b.run(Op::MaskedFillInPlace, &[&weighted, mask]);
        if self.version >= EXPERTS_SORT_ONCE {
            return fill(invalid);
        }
        let sorted = b.fresh(&[self.count, 1], Dtype::Bool);
        let filled = fill(&sorted);
        self.named.push(sorted);
        filled
    }

    /// Where each token's rows are among the sorted, (rows).
    pub fn back(&mut self, b: &'b Builder) -> Value<'b> {
        self.back.take().unwrap_or_else(|| inverse_by_index(b, self.count))
    }
}

/// `empty_like(order)`, then `inverse[order] = arange(rows)`.
fn inverse_by_index(b: &Builder, rows: u64) -> Value<'_> {
    let inverse = b.fresh(&[rows], Dtype::I64);
    b.scratch(&[rows], Dtype::I64);
    inverse
}

/// `torch.argsort(keys)` of one row.
fn arg_sort<'b>(b: &'b Builder, keys: &Value<'b>) -> Value<'b> {
    let [_sorted, order] = b.run_many(Op::Sort, &[keys]);
    order
}

/// Where each expert's rows end, and what is counted for it.
fn offsets(b: &Builder, version: Version, rows: u64, experts: u64) -> (Value<'_>, Vec<Value<'_>>) {
    let in_integers = version >= EXPERTS_COUNT_INTEGERS;
    let dtype = if in_integers { Dtype::I32 } else { Dtype::F32 };
    let cast = b.fresh(&[rows], dtype);
    let counts = b.fresh(&[experts], dtype);
    let cast = in_integers.then_some(cast);
    let offsets = b.run(Op::CumulativeSum { dtype: Dtype::I32 }, &[&counts]);
    (offsets, cast.into_iter().chain([counts]).collect())
}
