//! Layers of a graph that are alike: same statements, on values and weights of their own.
//!
//! What a layer allocates does not depend on its number, so of a run of alike layers five are run:
//! the first two and the last two, which touch what lies around, and one in between. All others
//! follow from that one, see [`stretch`](crate::step::stretch).
//!
//! Where each layer differs from the next, but groups of a few do not (every second one is recomputed,
//! every sixth attends to all tokens), a group is what is called a layer here.

use std::ops::Range;

use crate::model::graph::{Graph, Region, Statement, ValueId};
use crate::step::setup::Checkpointing;

/// How many of the alike layers are run.
pub const RUN: usize = 5;

/// Which of them stands for those that are not run.
pub const TEMPLATE: usize = 2;

/// The most layers after which what they do comes again: Gemma 3's windows are open in every sixth.
const LONGEST_GROUP: usize = 6;

/// Nothing, among ids.
const NONE: u32 = u32::MAX;

/// Alike layers that follow each other, and which of them are run.
#[derive(Debug)]
pub struct Alike {
    /// The statements of each layer that is run.
    pub run: [Range<usize>; RUN],
    /// Values of the template that the layer after those left out reads, as it calls them.
    pub carried: Vec<(ValueId, ValueId)>,
    /// For each layer that is run, its trained parameters in the order of their first use.
    parameters: [Vec<u32>; RUN],
    /// The same for each layer that is left out.
    parameters_left_out: Vec<Vec<u32>>,
    /// The template's own modules.
    modules: Range<u32>,
    /// How far from those the own modules of each layer left out are.
    modules_left_out: Vec<u32>,
    /// How far from those the own modules of the layers around the template are.
    modules_around: [i64; 2],
}

impl Alike {
    /// Finds layers, or else the smallest groups of layers, that are alike, enough of them to leave
    /// some out.
    pub fn of(graph: &Graph, checkpointing: Checkpointing) -> Option<Alike> {
        // Layers of a stage that is recomputed as a whole run twice in backward.
        if graph.layers.iter().any(|it| it.region == Region::Stage)
            && checkpointing.recomputes(Region::Stage)
        {
            return None;
        }
        let layers = segments(graph);
        (1..=LONGEST_GROUP).find_map(|many| {
            let group = |layers: &[Range<usize>]| Some(layers.first()?.start..layers.last()?.end);
            let groups: Vec<_> = layers.chunks_exact(many).filter_map(group).collect();
            Alike::among(graph, checkpointing, &groups)
        })
    }

    /// Finds groups of statements that are alike, enough of them to leave some out.
    fn among(
        graph: &Graph,
        checkpointing: Checkpointing,
        segments: &[Range<usize>],
    ) -> Option<Alike> {
        if segments.len() <= RUN {
            return None;
        }
        let uses = Uses::of(graph, segments);
        let range = longest(segments.len(), |one, other| {
            alike(graph, checkpointing, &uses, segments, (one, other)).is_some()
        });
        if range.len() <= RUN {
            return None;
        }
        let (first, last) = (range.start, range.end - 1);
        let template = first + TEMPLATE;
        let run = [first, first + 1, template, last - 1, last];
        let left_out = template + 1..last - 1;
        let by = |layer| alike(graph, checkpointing, &uses, segments, (template, layer));
        let own = own_modules(graph, segments, template)?;
        Some(Alike {
            carried: carried(graph, &uses, segments, template, left_out.end)?,
            parameters: run.map(|layer| uses.parameters[layer].clone()),
            parameters_left_out: left_out.clone().map(|i| uses.parameters[i].clone()).collect(),
            modules: own,
            modules_left_out: left_out
                .map(|layer| u32::try_from(by(layer)?).ok())
                .collect::<Option<_>>()?,
            modules_around: [by(template - 1)?, by(last - 1)?],
            run: run.map(|layer| segments[layer].clone()),
        })
    }

    /// Returns how many layers are left out.
    pub fn left_out(&self) -> usize {
        self.parameters_left_out.len()
    }

    /// Returns the parameter of a layer left out that stands where one of the template's does.
    pub fn parameter_of(&self, left_out: usize, parameter: u32) -> Option<u32> {
        let at = self.parameters[TEMPLATE].iter().position(|&own| own == parameter)?;
        self.parameters_left_out[left_out].get(at).copied()
    }

    /// Returns which of the layers that are run each parameter belongs to.
    pub fn layers_of_parameters(&self, parameters: usize) -> Vec<Option<u8>> {
        let mut layers = vec![None; parameters];
        for (layer, own) in (0u8..).zip(&self.parameters) {
            for &parameter in own {
                layers[parameter as usize] = Some(layer);
            }
        }
        layers
    }

    /// Returns what a module of the template is called in a layer left out.
    pub fn module_of(&self, left_out: usize, module: u32) -> u32 {
        if self.modules.contains(&module) {
            module + self.modules_left_out[left_out]
        } else {
            module
        }
    }

    /// Whether a module of a layer beside the template (0 before, 1 after) is called as it should.
    pub fn same_module(&self, side: usize, module: u32, other: u32) -> bool {
        let moved = if self.modules.contains(&module) { self.modules_around[side] } else { 0 };
        i64::from(module) + moved == i64::from(other)
    }
}

/// Returns the statements of each layer, up to where the next one begins.
fn segments(graph: &Graph) -> Vec<Range<usize>> {
    let layers = graph.layers.iter().filter(|layer| matches!(layer.region, Region::Layer(_)));
    let bounds: Vec<Range<usize>> =
        layers.map(|layer| layer.statements.start - 1..layer.statements.end + 1).collect();
    let next = bounds.iter().skip(1).map(|bounds| bounds.start);
    let last = bounds.last().map(|bounds| bounds.end);
    bounds.iter().zip(next.chain(last)).map(|(bounds, next)| bounds.start..next).collect()
}

/// Returns the longest range of which each member is like the next.
fn longest(count: usize, like_next: impl Fn(usize, usize) -> bool) -> Range<usize> {
    let (mut best, mut start) = (0..0, 0);
    for next in 1..=count {
        if next == count || !like_next(next - 1, next) {
            if next - start > best.len() {
                best = start..next;
            }
            start = next;
        }
    }
    best
}

/// Where values come from, and which layer a weight is of.
struct Uses {
    /// For each value: the layer that makes it, and where there.
    made: Vec<(u32, u32)>,
    /// For each value: the weight that it is.
    weights: Vec<u32>,
    /// For each weight: the layer that uses it first, and how many it uses before.
    first: Vec<(u32, u32)>,
    /// For each layer: its trained parameters, in the order of their first use.
    parameters: Vec<Vec<u32>>,
}

impl Uses {
    fn of(graph: &Graph, segments: &[Range<usize>]) -> Uses {
        let values = graph.value_count as usize;
        let mut uses = Uses {
            made: vec![(NONE, NONE); values],
            weights: vec![NONE; values],
            first: vec![(NONE, NONE); graph.weights.len()],
            parameters: vec![Vec::new(); segments.len()],
        };
        for (index, weight) in (0u32..).zip(&graph.weights) {
            uses.weights[weight.value.0 as usize] = index;
        }
        let mut parameters = vec![NONE; graph.weights.len()];
        for (parameter, &weight) in (0u32..).zip(&graph.trained) {
            parameters[weight as usize] = parameter;
        }
        for (layer, segment) in (0u32..).zip(segments) {
            let mut used = 0;
            for (at, statement) in (0u32..).zip(&graph.statements[segment.clone()]) {
                let Statement::Run { inputs, outputs, .. } = statement else { continue };
                for input in inputs {
                    let weight = uses.weights[input.0 as usize];
                    if weight != NONE && uses.first[weight as usize].0 == NONE {
                        uses.first[weight as usize] = (layer, used);
                        used += 1;
                        let parameter = parameters[weight as usize];
                        if parameter != NONE {
                            uses.parameters[layer as usize].push(parameter);
                        }
                    }
                }
                for (slot, output) in (0u32..).zip(outputs) {
                    uses.made[output.0 as usize] = (layer, at * 4 + slot);
                }
            }
        }
        uses
    }

    /// Whether two layers mean the same by two values: what lies outside of all layers, what stands
    /// at the same place in them or in the one before, or weights of their own that look the same.
    fn same(&self, graph: &Graph, layers: (usize, usize), values: (ValueId, ValueId)) -> bool {
        let of = |layer: usize, value: ValueId| {
            let (made, at) = self.made[value.0 as usize];
            ((layer as u32).wrapping_sub(made), made, at)
        };
        let (one, other) = (of(layers.0, values.0), of(layers.1, values.1));
        if one.1 != NONE || other.1 != NONE {
            return one.0 == other.0 && one.2 == other.2 && one.0 <= 1;
        }
        let weights = (self.weights[values.0.0 as usize], self.weights[values.1.0 as usize]);
        if weights.0 == NONE || weights.1 == NONE {
            return values.0 == values.1;
        }
        let first = (self.first[weights.0 as usize], self.first[weights.1 as usize]);
        let alone = first.0.0 == layers.0 as u32 && first.1.0 == layers.1 as u32;
        let (a, b) = (&graph.weights[weights.0 as usize], &graph.weights[weights.1 as usize]);
        alone
            && first.0.1 == first.1.1
            && (&a.sizes, a.dtype, a.trained, a.name) == (&b.sizes, b.dtype, b.trained, b.name)
    }
}

/// Returns how far apart the modules of two layers are, if they are alike.
fn alike(
    graph: &Graph,
    checkpointing: Checkpointing,
    uses: &Uses,
    segments: &[Range<usize>],
    layers: (usize, usize),
) -> Option<i64> {
    let (one, other) = (segments[layers.0].clone(), segments[layers.1].clone());
    if one.len() != other.len() {
        return None;
    }
    let mut distance = 0;
    for (a, b) in graph.statements[one].iter().zip(&graph.statements[other]) {
        let same = match (a, b) {
            (
                Statement::Run { op: op_a, inputs: in_a, outputs: out_a },
                Statement::Run { op: op_b, inputs: in_b, outputs: out_b },
            ) => {
                let same = |(&a, &b): (&ValueId, &ValueId)| uses.same(graph, layers, (a, b));
                op_a == op_b
                    && (in_a.len(), out_a.len()) == (in_b.len(), out_b.len())
                    && in_a.iter().zip(in_b).all(same)
            }
            (Statement::Drop(a), Statement::Drop(b)) => uses.same(graph, layers, (*a, *b)),
            (Statement::Enter(a), Statement::Enter(b))
            | (Statement::Leave(a), Statement::Leave(b)) => {
                let apart = i64::from(b.0) - i64::from(a.0);
                if distance == 0 {
                    distance = apart;
                }
                apart == 0 || apart == distance
            }
            (Statement::Autocast { on: a }, Statement::Autocast { on: b }) => a == b,
            (Statement::BeginLayer(a), Statement::BeginLayer(b))
            | (Statement::EndLayer(a), Statement::EndLayer(b)) => {
                let region = |id: usize| checkpointing.recomputes(graph.layers[id].region);
                region(a.0 as usize) == region(b.0 as usize)
            }
            _ => false,
        };
        if !same {
            return None;
        }
    }
    Some(distance)
}

/// Returns the modules that a layer enters and its neighbour does not.
fn own_modules(graph: &Graph, segments: &[Range<usize>], layer: usize) -> Option<Range<u32>> {
    let entered = |layer: usize| {
        graph.statements[segments[layer].clone()].iter().filter_map(|statement| match statement {
            Statement::Enter(module) | Statement::Leave(module) => Some(module.0),
            _ => None,
        })
    };
    let own = entered(layer).zip(entered(layer + 1)).filter(|(a, b)| a != b).map(|(own, _)| own);
    let (least, most) = own.fold((NONE, 0), |(least, most), id| (least.min(id), most.max(id)));
    let shared = entered(layer).zip(entered(layer + 1)).filter(|(a, b)| a == b).map(|(id, _)| id);
    let mut shared = shared;
    let range = if least == NONE { 0..0 } else { least..most + 1 };
    (!shared.any(|id| range.contains(&id))).then_some(range)
}

/// Returns what the first layer after those left out reads of the one before, beside what the
/// template made of it; nothing where more than that is read of what is left out.
fn carried(
    graph: &Graph,
    uses: &Uses,
    segments: &[Range<usize>],
    template: usize,
    after: usize,
) -> Option<Vec<(ValueId, ValueId)>> {
    let left_out = template as u32 + 1..after as u32;
    let mut carried: Vec<(ValueId, ValueId)> = Vec::new();
    for (at, statement) in graph.statements.iter().enumerate().skip(segments[after].start) {
        let read: &[ValueId] = match statement {
            Statement::Run { inputs, .. } => inputs,
            Statement::Drop(value) => std::slice::from_ref(value),
            _ => continue,
        };
        for &value in read {
            let (layer, place) = uses.made[value.0 as usize];
            if !left_out.contains(&layer) || carried.iter().any(|&(_, known)| known == value) {
                continue;
            }
            if layer + 1 != after as u32 || !segments[after].contains(&at) {
                return None;
            }
            let from = uses.made.iter().position(|&made| made == (template as u32, place))?;
            carried.push((ValueId(from as u32), value));
        }
    }
    Some(carried)
}
