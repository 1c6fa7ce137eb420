//! Embeddings of tokens, positions and segments, their sum normed and dropped out.

use crate::model::blocks::norm::Norm;
use crate::model::builder::{Builder, Value};
use crate::model::config::EncoderConfig;
use crate::model::decoder::architecture::NormKind;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::versions::TRANSFORMERS_5;

/// The tables, the norm and the buffers.
#[derive(Debug)]
pub struct Embeddings<'b> {
    /// The table of tokens, unless a head has loaded it before.
    tokens: Option<Value<'b>>,
    positions: Value<'b>,
    segments: Option<Value<'b>>,
    norm: Norm<'b>,
    position_ids: Value<'b>,
    segment_ids: Option<Value<'b>>,
}

impl<'b> Embeddings<'b> {
    /// Loads them; `root` is the path of the encoder.
    pub fn load(
        b: &'b Builder,
        c: &EncoderConfig,
        o: &GraphOptions,
        root: &str,
        tokens_are_loaded: bool,
    ) -> Embeddings<'b> {
        let module = format!("{root}.embeddings");
        let width = c.hidden_size;
        let table = |name: &str, rows| b.parameter(&format!("{module}.{name}"), &[rows, width]);
        let tokens = (!tokens_are_loaded).then(|| table("word_embeddings", c.vocab_size));
        // From transformers 5 on, RoBERTa makes its table of positions last.
        let late = c.family.counts_positions() && o.transformers >= TRANSFORMERS_5;
        let positions = || table("position_embeddings", c.max_position_embeddings);
        let early_positions = (!late).then(positions);
        let segments =
            c.family.has_segments().then(|| table("token_type_embeddings", c.type_vocab_size));
        let norm = Norm::load(b, NormKind::Layer, &module, "LayerNorm", width);
        let positions = early_positions.unwrap_or_else(positions);
        let ids = || b.buffer(&module, &[1, c.max_position_embeddings], Dtype::I64);
        let position_ids = ids();
        let segment_ids = c.family.has_segments().then(ids);
        Embeddings { tokens, positions, segments, norm, position_ids, segment_ids }
    }

    /// Returns the table of tokens, if it was loaded here.
    pub fn tokens(&self) -> Option<&Value<'b>> {
        self.tokens.as_ref()
    }

    /// Runs them; `tokens` is the table of tokens.
    pub fn run(
        &self,
        b: &'b Builder,
        c: &EncoderConfig,
        o: &GraphOptions,
        ids: &Value<'b>,
        tokens: &Value<'b>,
    ) -> Value<'b> {
        let embed = |table: &Value<'b>, ids: &Value<'b>| b.run(Op::Embedding, &[table, ids]);
        let counts = c.family.counts_positions();
        let positions = if counts { counted(b, o) } else { self.first_positions(b, o) };
        let segments = self.segment_ids(b, o, counts);
        let token_embedded = {
            let _m = b.enter("word_embeddings");
            embed(tokens, ids)
        };
        let segment_embedded = self.segments.as_ref().zip(segments.as_ref()).map(|(table, ids)| {
            let _m = b.enter("token_type_embeddings");
            embed(table, ids)
        });
        let sum = segment_embedded.as_ref().map(|segments| b.add(&token_embedded, segments));
        let position_embedded = {
            let _m = b.enter("position_embeddings");
            embed(&self.positions, &positions)
        };
        let sum = match sum {
            None => b.add(&token_embedded, &position_embedded),
            Some(sum) if o.transformers >= TRANSFORMERS_5 => b.add(&sum, &position_embedded),
            Some(sum) => b.run(Op::AddInPlace, &[&sum, &position_embedded]),
        };
        let normed = self.norm.run(b, &sum);
        drop(sum);
        let _m = b.enter("dropout");
        b.dropout(&normed, c.hidden_dropout)
    }

    /// `self.position_ids[:, :seq_len]`
    fn first_positions(&self, b: &'b Builder, o: &GraphOptions) -> Value<'b> {
        b.run(Op::Slice { dim: 1, start: 0, end: o.seq_len as i64 }, &[&self.position_ids])
    }

    /// Zeros for each token: a view of the buffer, from transformers 5 on picked by position.
    fn segment_ids(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        counts_positions: bool,
    ) -> Option<Value<'b>> {
        let buffer = self.segment_ids.as_ref()?;
        let seq = o.seq_len;
        let row = if o.transformers >= TRANSFORMERS_5 {
            b.fresh(&[if counts_positions { o.batch } else { 1 }, seq], Dtype::I64)
        } else {
            b.run(Op::Slice { dim: 1, start: 0, end: seq as i64 }, &[buffer])
        };
        let sizes = [o.batch as i64, seq as i64].into_iter().collect();
        Some(b.run(Op::Expand { sizes }, &[&row]))
    }
}

/// `create_position_ids_from_input_ids`: tokens that are no padding are counted.
fn counted<'b>(b: &'b Builder, o: &GraphOptions) -> Value<'b> {
    let fresh = |dtype| b.fresh(&[o.batch, o.seq_len], dtype);
    // ids.ne(padding).int()
    let is_token = {
        let _is_token = fresh(Dtype::Bool);
        fresh(Dtype::I32)
    };
    // (cumsum(is_token).type_as(is_token) + 0) * is_token
    let counted = {
        let shifted = {
            let narrow = {
                let _sums = b.run(Op::CumulativeSum { dtype: Dtype::I64 }, &[&is_token]);
                fresh(Dtype::I32)
            };
            let shifted = fresh(Dtype::I32);
            drop(narrow);
            shifted
        };
        let counted = fresh(Dtype::I32);
        drop(shifted);
        counted
    };
    // counted.long() + padding
    let wide = fresh(Dtype::I64);
    let positions = fresh(Dtype::I64);
    drop((wide, is_token, counted));
    positions
}
