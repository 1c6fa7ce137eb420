//! Rotary embeddings: the tables, and turning query and key by them.

use crate::model::builder::{Builder, Value};
use crate::model::decoder::architecture::Rotation;
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;
use crate::model::versions::{ROTARY_BROADCASTS, ROTARY_SCALES_AT_ONCE};

/// Cosines and sines, (1, seq_len, rotary_dim).
pub type Table<'b> = (Value<'b>, Value<'b>);

/// Makes a table, in the model's dtype or in float32.
pub fn table<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    rotary_dim: u64,
    inv_freq: &Value<'b>,
    dtype: Dtype,
) -> Table<'b> {
    Frequencies { o, rotary_dim, inv_freq, scaling: Scaling::of_model(o) }
        .table(b, &|x| b.run(Op::To { dtype }, &[x]))
}

/// Makes a table in the dtype of `like`.
pub fn table_like<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    rotary_dim: u64,
    inv_freq: &Value<'b>,
    like: &Value<'b>,
) -> Table<'b> {
    Frequencies { o, rotary_dim, inv_freq, scaling: Scaling::of_model(o) }
        .table(b, &|x| b.run(Op::ToLike, &[x, like]))
}

/// The same, as an attention's own module makes it before transformers 4.48, which scales nothing.
pub fn unscaled_table_like<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    rotary_dim: u64,
    inv_freq: &Value<'b>,
    like: &Value<'b>,
) -> Table<'b> {
    Frequencies { o, rotary_dim, inv_freq, scaling: Scaling::None }
        .table(b, &|x| b.run(Op::ToLike, &[x, like]))
}

/// Looks a table up that was made beforehand, for each position and in the dtype of `like`: cosines and
/// sines of all positions, (positions, rotary_dim) each.
pub fn cached_table_like<'b>(
    b: &'b Builder,
    o: &GraphOptions,
    cached: &Table<'b>,
    like: &Value<'b>,
) -> Table<'b> {
    let (cosines, sines) = cached_table(b, o, cached);
    let cast = |rows: &Value<'b>| b.run(Op::ToLike, &[rows, like]);
    (cast(&cosines), cast(&sines))
}

/// Cosines and sines of the first tokens, out of those of all positions.
pub fn cached_table<'b>(b: &'b Builder, o: &GraphOptions, cached: &Table<'b>) -> Table<'b> {
    let rows =
        |all: &Value<'b>| b.run(Op::Slice { dim: 0, start: 0, end: o.seq_len as i64 }, &[all]);
    (rows(&cached.0), rows(&cached.1))
}

/// When cosines and sines are multiplied by `attention_scaling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scaling {
    /// As they are made.
    AtOnce,
    /// When both are.
    After,
    /// Not at all.
    None,
}

impl Scaling {
    fn of_model(o: &GraphOptions) -> Scaling {
        if o.transformers >= ROTARY_SCALES_AT_ONCE { Scaling::AtOnce } else { Scaling::After }
    }
}

/// What a table is made of.
struct Frequencies<'a, 'b> {
    o: &'a GraphOptions,
    rotary_dim: u64,
    inv_freq: &'a Value<'b>,
    scaling: Scaling,
}

impl<'b> Frequencies<'_, 'b> {
    fn table(&self, b: &'b Builder, cast: &dyn Fn(&Value<'b>) -> Value<'b>) -> Table<'b> {
        let (seq, dim) = (self.o.seq_len, self.rotary_dim);
        let off = b.without_autocast();
        let (freqs, _positions) = if self.o.transformers >= ROTARY_BROADCASTS {
            let _positions = b.fresh(&[1, seq, 1], Dtype::F32);
            (b.fresh(&[1, seq, dim / 2], Dtype::F32), None)
        } else {
            // A matrix product of (1, dim / 2, 1) and (1, 1, seq_len), outside autograd.
            let positions = b.fresh(&[1, 1, seq], Dtype::F32);
            let columns = b.view(self.inv_freq, &[1, dim as i64 / 2, 1]);
            let product = b.run(Op::Matmul, &[&columns, &positions]);
            (b.transpose(&product, 1, 2), Some(positions))
        };
        let emb = b.run(Op::Cat { dim: -1 }, &[&freqs, &freqs]);
        let fresh = || b.fresh(&[1, seq, dim], Dtype::F32);
        let scaled = |raw| {
            let scaled = fresh();
            drop(raw);
            scaled
        };
        let (cos, sin) = match self.scaling {
            Scaling::AtOnce => (scaled(fresh()), scaled(fresh())),
            Scaling::After => {
                let (cos, sin) = (fresh(), fresh());
                (scaled(cos), scaled(sin))
            }
            Scaling::None => (fresh(), fresh()),
        };
        drop(off);
        let out = (cast(&cos), cast(&sin));
        drop((freqs, emb, cos, sin));
        out
    }
}

/// A table seen by each head, and how it is applied.
#[derive(Debug)]
pub struct Rotary<'a, 'b> {
    /// The table.
    pub table: &'a Table<'b>,
    /// How much of a head is turned, and joined with the rest.
    pub rotation: Rotation,
    /// Size of a head.
    pub head_dim: u64,
    /// How much of it is turned.
    pub rotary_dim: u64,
    /// Whether query and key are turned in float32.
    pub upcast: bool,
    /// Whether the table is in float32 or query and key are turned in it, so that results are cast
    /// back.
    pub cast_back: bool,
}

impl<'b> Rotary<'_, 'b> {
    /// `apply_rotary_pos_emb`: query and key, (batch, heads, seq_len, head_dim) each.
    pub fn apply(&self, b: &'b Builder, q: &Value<'b>, k: &Value<'b>) -> (Value<'b>, Value<'b>) {
        let cos = b.run(Op::Unsqueeze { dim: 1 }, &[&self.table.0]);
        let sin = b.run(Op::Unsqueeze { dim: 1 }, &[&self.table.1]);
        let turned = |x: &Value<'b>| self.turned(b, x, &cos, &sin);
        match self.rotation {
            Rotation::Whole => {
                let (q_turned, k_turned) = (turned(q), turned(k));
                if !self.cast_back {
                    return (q_turned, k_turned);
                }
                (b.run(Op::ToLike, &[&q_turned, q]), b.run(Op::ToLike, &[&k_turned, k]))
            }
            Rotation::JoinedEach => {
                let (q_part, q_rest) = self.parts(b, q);
                let (k_part, k_rest) = self.parts(b, k);
                let joined = |part: &Value<'b>, rest: &Value<'b>| {
                    let turned = turned(part);
                    b.run(Op::Cat { dim: -1 }, &[&turned, rest])
                };
                (joined(&q_part, &q_rest), joined(&k_part, &k_rest))
            }
            Rotation::JoinedLast => {
                let (q_part, q_rest) = self.parts(b, q);
                let (k_part, k_rest) = self.parts(b, k);
                let (q_turned, k_turned) = (turned(&q_part), turned(&k_part));
                let q_joined = b.run(Op::Cat { dim: -1 }, &[&q_turned, &q_rest]);
                drop(q_turned);
                let k_joined = b.run(Op::Cat { dim: -1 }, &[&k_turned, &k_rest]);
                (q_joined, k_joined)
            }
        }
    }

    /// `x[..., :rotary_dim], x[..., rotary_dim:]`
    fn parts(&self, b: &'b Builder, x: &Value<'b>) -> (Value<'b>, Value<'b>) {
        let (part, whole) = (self.rotary_dim as i64, self.head_dim as i64);
        let slice = |start, end| b.run(Op::Slice { dim: -1, start, end }, &[x]);
        (slice(0, part), slice(part, whole))
    }

    /// `(x * cos) + (rotate_half(x) * sin)`, x in float32 each time where it is asked for.
    fn turned(&self, b: &'b Builder, x: &Value<'b>, cos: &Value<'b>, sin: &Value<'b>) -> Value<'b> {
        let wide = || self.upcast.then(|| b.run(Op::To { dtype: Dtype::F32 }, &[x]));
        let plain = {
            let wide = wide();
            b.mul(wide.as_ref().unwrap_or(x), cos)
        };
        let (half, whole) = ((self.rotary_dim / 2) as i64, self.rotary_dim as i64);
        let rotated = {
            let wide = wide();
            let x = wide.as_ref().unwrap_or(x);
            let first = b.run(Op::Slice { dim: -1, start: 0, end: half }, &[x]);
            let second = b.run(Op::Slice { dim: -1, start: half, end: whole }, &[x]);
            let negated = b.run(Op::Neg, &[&second]);
            b.run(Op::Cat { dim: -1 }, &[&negated, &first])
        };
        let turned = b.mul(&rotated, sin);
        drop(rotated);
        b.add(&plain, &turned)
    }
}
