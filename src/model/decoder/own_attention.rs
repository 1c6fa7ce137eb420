//! What the attention classes of decoders did besides, before they took `ALL_ATTENTION_FUNCTIONS`
//! (transformers 4.48, GPT-NeoX 4.49): buffers of their own, and cosines and sines made of them.
//!
//! Source: `models/*/modeling_*.py` of transformers 4.44.2 to 4.47.1.

use crate::model::blocks::rotary::{self, Table};
use crate::model::builder::{Builder, Value};
use crate::model::config::{DecoderConfig, Family};
use crate::model::decoder::architecture::{Architecture, RotaryModules};
use crate::model::graph::{Dtype, Op};
use crate::model::options::GraphOptions;

/// Returns where a decoder's cosines and sines are made.
pub fn rotary_modules(c: &DecoderConfig, o: &GraphOptions) -> RotaryModules {
    Architecture::own_attention(c.family, o.transformers)
        .map_or(RotaryModules::Model, |own| own.rotary)
}

/// Loads the buffers that GPT-NeoX's attention holds itself, and returns the one of tokens that are not later.
pub fn neox_buffers<'b>(
    b: &'b Builder,
    c: &DecoderConfig,
    o: &GraphOptions,
    attention: &str,
) -> Option<Value<'b>> {
    let own = Architecture::own_attention(c.family, o.transformers);
    own.filter(|_| c.family == Family::GptNeoX)?;
    let positions = c.max_position_embeddings;
    let causal = b.buffer(attention, &[1, 1, positions, positions], Dtype::Bool);
    b.buffer(attention, &[], Dtype::Model); // masked_bias
    Some(causal)
}

/// The rotary module of one attention.
#[derive(Debug)]
pub enum OwnRotary<'b> {
    /// None, or one that is not asked.
    Idle,
    /// Makes a table of its inverse frequencies.
    Makes(Value<'b>),
    /// Has cosines and sines of all positions, (positions, head_dim) each.
    Cached(Table<'b>),
    /// The same in float32, and gives them so.
    CachedWide(Table<'b>),
}

impl<'b> OwnRotary<'b> {
    /// Loads its buffers; `attention` is the path of the module that holds it.
    pub fn load(
        b: &'b Builder,
        c: &DecoderConfig,
        o: &GraphOptions,
        attention: &str,
    ) -> OwnRotary<'b> {
        let modules = rotary_modules(c, o);
        if modules == RotaryModules::Model {
            return OwnRotary::Idle;
        }
        let module = format!("{attention}.rotary_emb");
        let inv_freq = b.buffer(&module, &[c.rotary_dim_in(o.transformers) / 2], Dtype::F32);
        match modules {
            RotaryModules::Model | RotaryModules::ModelAndIdle => OwnRotary::Idle,
            RotaryModules::Attention => OwnRotary::Makes(inv_freq),
            RotaryModules::Cached => {
                let sizes = [c.max_position_embeddings, c.rotary_dim_in(o.transformers)];
                let table = |dtype| {
                    let cosines = b.buffer(&module, &sizes, dtype);
                    (cosines, b.buffer(&module, &sizes, dtype))
                };
                match c.family {
                    Family::GptNeoX => OwnRotary::CachedWide(table(Dtype::F32)),
                    _ => OwnRotary::Cached(table(Dtype::Model)),
                }
            }
        }
    }

    /// Returns the table that it makes for one run, if it makes any.
    pub fn table(
        &self,
        b: &'b Builder,
        c: &DecoderConfig,
        o: &GraphOptions,
        values: &Value<'b>,
    ) -> Option<Table<'b>> {
        if matches!(self, OwnRotary::Idle) {
            return None;
        }
        let _m = b.enter("rotary_emb");
        match self {
            OwnRotary::Idle => None,
            OwnRotary::Makes(inv_freq) => {
                let dim = c.rotary_dim_in(o.transformers);
                Some(rotary::unscaled_table_like(b, o, dim, inv_freq, values))
            }
            OwnRotary::Cached(all) => Some(rotary::cached_table_like(b, o, all, values)),
            OwnRotary::CachedWide(all) => Some(rotary::cached_table(b, o, all)),
        }
    }

    /// Returns the rows of the table that the positions name (`cos[position_ids]`), where there are more.
    pub fn rows_of_positions(
        &self,
        b: &'b Builder,
        o: &GraphOptions,
        table: &Table<'b>,
        dim: u64,
    ) -> Option<Table<'b>> {
        if !matches!(self, OwnRotary::Cached(_) | OwnRotary::CachedWide(_)) {
            return None;
        }
        let sizes = [1, o.seq_len, dim].map(|n| n as i64);
        let rows =
            |all: &Value<'b>| b.run(Op::FreshLike { sizes: sizes.into_iter().collect() }, &[all]);
        Some((rows(&table.0), rows(&table.1)))
    }
}
