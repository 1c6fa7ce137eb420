//! Disentangled attention: scores of content and content, of content and distance, and of distance
//! and content, summed.

use crate::model::blocks::linear::Linear;
use crate::model::builder::{Builder, Value};
use crate::model::config::{DebertaConfig, RelativeAttention};
use crate::model::graph::{Dtype, Op};
use crate::model::masks;
use crate::model::options::GraphOptions;

/// The projections of an attention.
#[derive(Debug)]
pub struct Projections<'b> {
    query: Linear<'b>,
    key: Linear<'b>,
    value: Linear<'b>,
    /// Of distances as keys and as queries, where those of tokens are not used.
    distance_key: Option<Linear<'b>>,
    distance_query: Option<Linear<'b>>,
}

impl<'b> Projections<'b> {
    /// Loads them; `path` is the attention's own.
    pub fn load(b: &'b Builder, c: &DebertaConfig, path: &str) -> Projections<'b> {
        let linear = |name| Linear::load(b, path, name, [c.hidden_size, c.hidden_size], true);
        let own = |has: fn(&RelativeAttention) -> bool, name| {
            let has = c.relative.as_ref().is_some_and(|r| has(r) && !r.share_att_key);
            has.then(|| linear(name))
        };
        Projections {
            query: linear("query_proj"),
            key: linear("key_proj"),
            value: linear("value_proj"),
            distance_key: own(|r| r.content_to_position, "pos_key_proj"),
            distance_query: own(|r| r.position_to_content, "pos_query_proj"),
        }
    }
}

/// One attention to run.
#[derive(Debug)]
pub struct Disentangled<'a, 'b> {
    /// The model's sizes.
    pub c: &'a DebertaConfig,
    /// The batch.
    pub o: &'a GraphOptions,
    /// Its weights.
    pub w: &'a Projections<'b>,
    /// What it does with distances, and their embeddings.
    pub relative: Option<(RelativeAttention, &'a Value<'b>)>,
    /// What it is passed besides: which tokens see each other, and how far they are apart.
    pub passed: &'a [&'a Value<'b>],
}

impl<'b> Disentangled<'_, 'b> {
    /// Runs it on (batch, seq_len, hidden).
    pub fn run(&self, b: &'b Builder, x: &Value<'b>) -> Value<'b> {
        let (c, o) = (self.c, self.o);
        let (heads, seq) = (c.num_attention_heads as i64, o.seq_len as i64);
        let [q, k, v] = [&self.w.query, &self.w.key, &self.w.value]
            .map(|linear| self.by_head(b, linear.run(b, x), o.batch, o.seq_len));
        let mut scores = {
            let scaled = {
                let turned = b.transpose(&k, 1, 2);
                b.mul_number(&turned)
            };
            b.run(Op::Bmm, &[&q, &scaled])
        };
        let _names = self.relative.map(|(relative, embeddings)| {
            let embeddings = {
                let _m = b.enter("pos_dropout");
                b.dropout(embeddings, c.hidden_dropout)
            };
            let bias = self.bias(b, relative, [&q, &k], &embeddings);
            scores = match &bias {
                Some(bias) => b.add(&scores, bias),
                None => b.add_number(&scores),
            };
            (embeddings, bias)
        });
        scores = b.view(&scores, &[-1, heads, seq, seq]);
        let pairs = || b.fresh(&[o.batch, 1, o.seq_len, o.seq_len], Dtype::Bool);
        let _sees = pairs();
        scores = {
            let is_hidden = pairs();
            b.run(Op::MaskedFill, &[&scores, &is_hidden])
        };
        let mut probabilities = b.run(Op::Softmax { in_f32: false }, &[&scores]);
        {
            let _m = b.enter("dropout");
            probabilities = b.dropout(&probabilities, c.attention_dropout);
        }
        let mut context = {
            let folded = b.view(&probabilities, &[-1, seq, seq]);
            b.run(Op::Bmm, &[&folded, &v])
        };
        context = {
            let split = b.view(&context, &[-1, heads, seq, c.head_dim() as i64]);
            let turned = b.run(Op::Permute { order: HEADS_LAST.into_iter().collect() }, &[&split]);
            b.contiguous(&turned)
        };
        b.view(&context, &[o.batch as i64, seq, -1])
    }

    /// `transpose_for_scores`: (batch, rows, hidden) to (batch x heads, rows, head_dim).
    fn by_head(&self, b: &'b Builder, x: Value<'b>, batch: u64, rows: u64) -> Value<'b> {
        let (heads, dim) = (self.c.num_attention_heads as i64, self.c.head_dim() as i64);
        let split = b.view(&x, &[batch as i64, rows as i64, heads, dim]);
        let turned = b.run(Op::Permute { order: HEADS_LAST.into_iter().collect() }, &[&split]);
        let dense = b.contiguous(&turned);
        drop((x, split, turned));
        b.view(&dense, &[-1, rows as i64, dim])
    }

    /// Distances as queries or keys of each sample's heads, (batch x heads, distances, head_dim).
    fn of_distances(
        &self,
        b: &'b Builder,
        linear: &Linear<'b>,
        x: &Value<'b>,
        distances: u64,
    ) -> Value<'b> {
        let by_head = self.by_head(b, linear.run(b, x), 1, 2 * distances);
        b.run(Op::Repeat { times: self.o.batch }, &[&by_head])
    }

    /// `disentangled_attention_bias`, (batch x heads, seq_len, seq_len); of no direction it is a number.
    fn bias(
        &self,
        b: &'b Builder,
        relative: RelativeAttention,
        [q, k]: [&Value<'b>; 2],
        embeddings: &Value<'b>,
    ) -> Option<Value<'b>> {
        let w = self.w;
        let end = 2 * relative.distances as i64;
        let rows = {
            let first = b.run(Op::Slice { dim: 0, start: 0, end }, &[embeddings]);
            let whole = masks::whole(b, &first, 1);
            b.run(Op::Unsqueeze { dim: 0 }, &[&whole])
        };
        // Where projections are shared both are made, whichever are used.
        let (as_query, as_key);
        let projected = |linear| self.of_distances(b, linear, &rows, relative.distances);
        if relative.share_att_key {
            as_query = Some(projected(&w.query));
            as_key = Some(projected(&w.key));
        } else {
            as_key = w.distance_key.as_ref().map(projected);
            as_query = w.distance_query.as_ref().map(projected);
        }
        let keys = as_key.as_ref().filter(|_| relative.content_to_position);
        let content_to_position = keys.map(|key| {
            let (gathered, places) = self.gathered(b, q, key, 2);
            let scaled = b.mul_number(&gathered);
            // 0 + what is the first
            let score = b.add_number(&scaled);
            (score, [gathered, places])
        });
        let queries = as_query.as_ref().filter(|_| relative.position_to_content);
        let position_to_content = queries.map(|query| {
            let (gathered, places) = self.gathered(b, k, query, 3);
            let turned = b.transpose(&gathered, 1, 2);
            drop(gathered);
            let scaled = b.mul_number(&turned);
            let score = match &content_to_position {
                Some((score, _)) => b.run(Op::AddInPlace, &[score, &scaled]),
                None => b.add_number(&scaled),
            };
            (score, [turned, places])
        });
        position_to_content.or(content_to_position).map(|(score, _names)| score)
    }

    /// Returns scores of each token and distance, of which those between tokens are picked, and their
    /// places, which are found in so many steps.
    fn gathered(
        &self,
        b: &'b Builder,
        content: &Value<'b>,
        distances: &Value<'b>,
        steps: u32,
    ) -> (Value<'b>, Value<'b>) {
        let (heads, seq) = (self.o.batch * self.c.num_attention_heads, self.o.seq_len);
        let scores = || {
            let turned = b.transpose(distances, 1, 2);
            b.run(Op::Bmm, &[content, &turned])
        };
        let places = || {
            let place = || b.fresh(&[1, 1, seq, seq], Dtype::I64);
            (1..steps).fold(place(), |last, _| {
                let next = place();
                drop(last);
                next
            })
        };
        // Where tokens attend to distances scores come first, else their places.
        let (scores, places) = if steps == 2 {
            let scores = scores();
            (scores, places())
        } else {
            let places = places();
            (scores(), places)
        };
        let square = b.run(Op::Squeeze { dim: 0 }, &[&places]);
        let sizes = [heads, seq, seq].map(|n| n as i64).into_iter().collect();
        let index = b.run(Op::Expand { sizes }, &[&square]);
        (b.run(Op::Gather, &[&scores, &index]), places)
    }
}

/// Turns (batch, a, b, head_dim) to (batch, b, a, head_dim).
const HEADS_LAST: [i64; 4] = [0, 2, 1, 3];
