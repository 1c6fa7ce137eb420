//! The transformation: weights and statements copied, with adapters put where they belong.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lora, Site, copied_head};
use crate::model::graph::{Dtype, Graph, ModuleId, Op, Statement, ValueId, Weight};
use crate::model::quantize::Quantize;

/// Values that an adapter adds, as an offset from what its layer returns: the layer's own result,
/// its dtype, the input in the adapter's dtype, dropped, through A, through B, scaled, the sum; a
/// quantized layer has one more, for the clone of its result.
const ADDED: u32 = 9;

/// A graph under transformation.
pub(super) struct Adapting<'g> {
    old: &'g Graph,
    new: Graph,
    lora: &'g Lora,
    /// Whether autocast is on.
    pub(super) autocast: bool,
    sites: Vec<Site>,
    embedded: Vec<(ValueId, usize)>,
    /// New ids by old ones; one more than there are values.
    ids: Vec<u32>,
    /// A's and B's value by module; a layer that runs twice has one adapter.
    adapters: BTreeMap<String, [(ValueId, ModuleId); 2]>,
}

impl<'g> Adapting<'g> {
    /// Starts with what is there.
    pub(super) fn new(
        old: &'g Graph,
        lora: &'g Lora,
        sites: Vec<Site>,
        embedded: Vec<(ValueId, usize)>,
    ) -> Adapting<'g> {
        let new = Graph {
            weights: Vec::with_capacity(old.weights.len() + 2 * sites.len()),
            trained: Vec::with_capacity(2 * sites.len()),
            batch: Vec::with_capacity(old.batch.len()),
            statements: Vec::with_capacity(old.statements.len() + 20 * sites.len()),
            loss: None,
            value_count: 0,
            modules: old.modules.clone(),
            layers: Vec::with_capacity(old.layers.len()),
            images: None,
            quantized: old.quantized,
            logits: old.logits,
        };
        let ids = Vec::with_capacity(old.value_count as usize + 1);
        let adapters = BTreeMap::new();
        Adapting { old, new, lora, autocast: false, sites, embedded, ids, adapters }
    }

    /// Ends with the graph that has the adapters.
    pub(super) fn run(mut self) -> Graph {
        self.weights();
        self.number();
        for (value, sizes, dtype) in &self.old.batch {
            self.new.batch.push((self.id(*value), sizes.clone(), *dtype));
        }
        let starts = self.statements();
        for layer in &self.old.layers {
            let mut layer = layer.clone();
            layer.statements = starts[layer.statements.start]..starts[layer.statements.end];
            let ends = [layer.values.start, layer.values.end].map(|id| self.ids[id as usize]);
            layer.values = ends[0]..ends[1];
            layer.captured = layer.captured.iter().map(|&id| self.id(id)).collect();
            self.new.layers.push(layer);
        }
        self.new.images = self.old.images.map(|id| self.id(id));
        self.new.loss = self.old.loss.map(|id| self.id(id));
        self.new
    }

    fn id(&self, old: ValueId) -> ValueId {
        ValueId(self.ids[old.0 as usize])
    }

    /// Frozen weights, and behind each target's own its A and B, which are trained in float32; behind a classifier's
    /// head the copy of it that is trained.
    fn weights(&mut self) {
        let mut sizes = BTreeMap::new();
        let rank = self.lora.rank as i64;
        for site in &self.sites {
            sizes.insert(site.module.clone(), [[rank, site.inputs], [site.outputs, rank]]);
        }
        let old = self.old;
        let module = |weight: &Weight| old.modules[weight.module.0 as usize].as_str();
        let head = |weight: &Weight| copied_head(module(weight));
        let mut head_starts = 0;
        for (index, weight) in old.weights.iter().enumerate() {
            let value = ValueId(self.new.weights.len() as u32);
            self.ids.push(value.0);
            self.new.weights.push(Weight { value, trained: false, ..weight.clone() });
            if index > 0 && head(weight) != head(&old.weights[index - 1]) {
                head_starts = index;
            }
            let next = old.weights.get(index + 1);
            if head(weight).is_some() && next.and_then(head) != head(weight) {
                old.weights[head_starts..=index]
                    .iter()
                    .for_each(|weight| self.trained_copy(weight));
            }
            if next.map(module) != Some(module(weight))
                && let Some(pair) = sizes.remove(module(weight))
            {
                self.add_pair(module(weight), pair);
            }
        }
        // A head that is tied has no weight of its own.
        for (module, pair) in sizes {
            self.add_pair(&module, pair);
        }
    }

    /// The copy of a classifier's weight that is trained: the forward reads it in place of the original.
    fn trained_copy(&mut self, weight: &Weight) {
        let index = self.new.weights.len() as u32;
        let value = ValueId(index);
        self.ids[weight.value.0 as usize] = index;
        self.new.trained.push(index);
        self.new.weights.push(Weight { value, trained: true, ..weight.clone() });
    }

    fn add_pair(&mut self, module: &str, pair: [[i64; 2]; 2]) {
        let mut made = [(ValueId(0), ModuleId(0)); 2];
        for (slot, (name, sizes)) in made.iter_mut().zip(["lora_A", "lora_B"].into_iter().zip(pair))
        {
            let value = ValueId(self.new.weights.len() as u32);
            let id = ModuleId(self.new.modules.len() as u32);
            self.new.modules.push(format!("{module}.{name}"));
            let (sizes, dtype) = (sizes.as_slice().into(), Dtype::F32);
            let weight = Weight { value, module: id, sizes, dtype, name: "weight", trained: true };
            // A and B are loaded in the order in which the optimizer has them.
            self.new.trained.push(self.new.weights.len() as u32);
            self.new.weights.push(weight);
            *slot = (value, id);
        }
        self.adapters.insert(module.to_owned(), made);
    }

    /// Numbers all values that are not weights: what an adapter adds follows what its layer returns.
    fn number(&mut self) {
        let added: BTreeMap<u32, u32> = self
            .sites
            .iter()
            .map(|site| (site.output.0, ADDED))
            .chain(self.embedded.iter().map(|(output, _)| (output.0, 1)))
            .collect();
        let mut next = self.new.weights.len() as u32;
        for id in self.old.weights.len() as u32..self.old.value_count {
            self.ids.push(next);
            next += 1 + added.get(&id).unwrap_or(&0);
        }
        self.ids.push(next);
        self.new.value_count = next;
    }

    /// Copies statements; returns where each of the old ones is now.
    fn statements(&mut self) -> Vec<usize> {
        let old = self.old;
        let mut starts = Vec::with_capacity(old.statements.len() + 1);
        let sites = std::mem::take(&mut self.sites);
        let mut ends: BTreeMap<usize, &Site> = sites.iter().map(|s| (s.leave, s)).collect();
        let renamed: BTreeSet<u32> = sites
            .iter()
            .map(|site| site.output.0)
            .chain(self.embedded.iter().map(|(output, _)| output.0))
            .collect();
        for (index, statement) in old.statements.iter().enumerate() {
            starts.push(self.new.statements.len());
            if let Some(site) = ends.remove(&index) {
                self.adapter(site);
            }
            if let Some(&(output, _)) = self.embedded.iter().find(|(_, leave)| *leave == index) {
                let output = self.id(output);
                let frozen = ValueId(output.0 + 1);
                self.push(Op::RequireGrad, &[frozen], output);
                self.new.statements.push(Statement::Drop(frozen));
            }
            let copied = match statement {
                Statement::Run { op, inputs, outputs } => Statement::Run {
                    op: op.clone(),
                    inputs: inputs.iter().map(|&id| self.id(id)).collect(),
                    outputs: outputs
                        .iter()
                        .map(|id| ValueId(self.id(*id).0 + u32::from(renamed.contains(&id.0))))
                        .collect(),
                },
                Statement::Drop(id) => Statement::Drop(self.id(*id)),
                other => other.clone(),
            };
            self.new.statements.push(copied);
        }
        starts.push(self.new.statements.len());
        starts
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], output: ValueId) {
        let inputs = inputs.into();
        self.new.statements.push(Statement::Run {
            op,
            inputs,
            outputs: [output].as_slice().into(),
        });
    }

    /// `result = result + lora_B(lora_A(dropout(x))) * scaling`, then back to the dtype it had.
    fn adapter(&mut self, site: &Site) {
        let Some(&[(a, in_a), (b, in_b)]) = self.adapters.get(&site.module) else { return };
        if let Some(how) = self.old.quantized.filter(|_| site.is_quantized) {
            return self.quantized_adapter(site, how, [(a, in_a), (b, in_b)]);
        }
        let own = site.entered;
        let out = self.id(site.output);
        let [base, dtype, x, dropped, through_a, through_b, scaled, sum] =
            std::array::from_fn(|i| ValueId(out.0 + 1 + i as u32));
        self.push(Op::DtypeOf, &[base], dtype);
        self.push(Op::To { dtype: Dtype::F32 }, &[self.id(site.input)], x);
        self.push(Op::Dropout { probability: self.lora.dropout }, &[x], dropped);
        self.new.statements.push(Statement::Enter(in_a));
        self.push(Op::Linear, &[dropped, a], through_a);
        self.new.statements.push(Statement::Leave(own));
        self.new.statements.push(Statement::Drop(dropped));
        self.new.statements.push(Statement::Enter(in_b));
        self.push(Op::Linear, &[through_a, b], through_b);
        self.new.statements.push(Statement::Leave(own));
        self.new.statements.push(Statement::Drop(through_a));
        self.push(Op::MulNumber, &[through_b], scaled);
        self.new.statements.push(Statement::Drop(through_b));
        self.push(Op::Add, &[base, scaled], sum);
        self.new.statements.extend([base, scaled].map(Statement::Drop));
        self.push(Op::ToLike, &[sum, dtype], out);
        self.new.statements.extend([sum, dtype, x].map(Statement::Drop));
    }

    /// The same on a quantized layer: its result is cloned first where that has 4 bits; x and the
    /// adapter's own are cast without autocast only.
    ///
    /// Source: peft `tuners/lora/bnb.py` of 0.17 and 0.21.
    fn quantized_adapter(&mut self, site: &Site, how: Quantize, pair: [(ValueId, ModuleId); 2]) {
        let [(a, in_a), (b, in_b)] = pair;
        let (own, out) = (site.entered, self.id(site.output));
        let [base, cloned, dtype, x, dropped, through_a, through_b, scaled, cast] =
            std::array::from_fn(|i| ValueId(out.0 + 1 + i as u32));
        let drop = |this: &mut Self, ids: &[ValueId]| {
            this.new.statements.extend(ids.iter().copied().map(Statement::Drop));
        };
        let result = match how {
            Quantize::Int8 => base,
            Quantize::Nf4 => {
                self.push(Op::Clone, &[base], cloned);
                drop(self, &[base]);
                cloned
            }
        };
        let read = self.id(site.input);
        if !self.autocast {
            self.push(Op::DtypeOf, &[result], dtype);
            self.push(Op::To { dtype: Dtype::F32 }, &[read], x);
        }
        let read = if self.autocast { read } else { x };
        self.push(Op::Dropout { probability: self.lora.dropout }, &[read], dropped);
        self.new.statements.push(Statement::Enter(in_a));
        self.push(Op::Linear, &[dropped, a], through_a);
        self.new.statements.push(Statement::Leave(own));
        drop(self, &[dropped]);
        self.new.statements.push(Statement::Enter(in_b));
        self.push(Op::Linear, &[through_a, b], through_b);
        self.new.statements.push(Statement::Leave(own));
        drop(self, &[through_a]);
        self.push(Op::MulNumber, &[through_b], scaled);
        drop(self, &[through_b]);
        if self.autocast {
            self.push(Op::Add, &[result, scaled], out);
            return drop(self, &[result, scaled]);
        }
        self.push(Op::ToLike, &[scaled, dtype], cast);
        drop(self, &[scaled]);
        self.push(Op::Add, &[result, cast], out);
        drop(self, &[result, cast, dtype, x]);
    }
}
