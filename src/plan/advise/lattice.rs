//! All setups that could be had in place of one: a choice on each of several axes.
//!
//! Choices of an axis are ordered by how mild they are, where one is milder than another; the first
//! is what is asked for, and milder than all.

use crate::model::adapters::{Lora, Targets};
use crate::model::config::ModelConfig;
use crate::model::quantize::Quantize;
use crate::plan::advise::change::{Change, Way};
use crate::step::setup::{
    Allocator, Attention, Checkpointing, Loss, Optimizer, Precision, ZeroGrad,
};
use crate::units::{AccumulationSteps, MicroBatch};

/// Sequences are not shortened below this by an offer.
pub const SHORTEST: u64 = 512;

/// How often an offer halves the sequence length.
const HALVINGS: usize = 2;

/// The adapters that are offered: on every linear layer, as QLoRA does.
///
/// Source: Dettmers et al. 2023, arXiv:2305.14314, section 4 (all linear layers are needed to match
/// full training; the rank hardly matters).
const RANK: u64 = 16;

/// Axes.
pub const AXES: usize = 10;

/// Which choice on each axis.
pub type Point = [u8; AXES];

const OPTIMIZER: usize = 5;
const PRECISION: usize = 6;
const TUNING: usize = 7;
const ZERO_GRAD: usize = 4;
const ALLOCATOR: usize = 9;

/// One choice of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What it changes; nothing for what is asked for.
    pub changes: Vec<Change>,
    /// Choices that are milder, as bits, and itself.
    milder: u32,
}

/// The choices on each axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    /// What is asked for.
    pub base: Way,
    axes: [Vec<Choice>; AXES],
}

impl Lattice {
    /// Lists what could be had in place of a setup.
    ///
    /// What the model refuses is among it: whoever looks at it finds out.
    pub fn of(model: &ModelConfig, base: &Way) -> Lattice {
        let axes = [
            micro_batches(base),
            checkpointing(model, base),
            loss(base),
            attention(base),
            zero_grad(base),
            optimizers(base),
            precisions(base),
            tunings(base),
            lengths(model, base),
            allocators(base),
        ];
        Lattice { base: base.clone(), axes }
    }

    /// Leaves the last choice of an axis out, where that is this change.
    #[must_use]
    pub fn without_last(mut self, change: &Change) -> Lattice {
        for choices in &mut self.axes {
            if choices.last().is_some_and(|last| last.changes == std::slice::from_ref(change)) {
                choices.pop();
            }
        }
        self
    }

    /// Returns every point, the mildest first: none stands before one that is milder.
    pub fn points(&self) -> Vec<Point> {
        let mut points = vec![[0; AXES]];
        for (axis, choices) in self.axes.iter().enumerate() {
            let many = u8::try_from(choices.len()).unwrap_or(u8::MAX);
            let with = |point: Point| {
                (0..many).map(move |choice| {
                    let mut point = point;
                    point[axis] = choice;
                    point
                })
            };
            points = points.into_iter().flat_map(with).collect();
        }
        points.sort_by_key(|point| self.depth(point));
        points
    }

    /// Returns how many choices on all axes are milder than those of a point: less for whatever is
    /// milder itself.
    pub fn depth(&self, point: &Point) -> u32 {
        self.choices(point).map(|choice| choice.milder.count_ones() - 1).sum()
    }

    /// Whether a point is another one, or milder on some axes and the same on all others.
    pub fn is_milder(&self, point: &Point, than: &Point) -> bool {
        self.choices(than).zip(point).all(|(choice, &mild)| choice.milder >> mild & 1 == 1)
    }

    /// Returns what a point changes.
    pub fn changes(&self, point: &Point) -> Vec<Change> {
        self.choices(point).flat_map(|choice| choice.changes.iter().cloned()).collect()
    }

    /// Returns the setup of a point.
    pub fn way(&self, point: &Point) -> Way {
        let changes = self.choices(point).flat_map(|choice| &choice.changes);
        changes.fold(self.base.clone(), |way, change| change.applied(&way))
    }

    /// Returns the points that differ from what is asked for on one axis.
    pub fn single(&self) -> Vec<Point> {
        let axes = self.axes.iter().enumerate();
        axes.flat_map(|(axis, choices)| {
            (1..u8::try_from(choices.len()).unwrap_or(u8::MAX)).map(move |choice| {
                let mut point = [0; AXES];
                point[axis] = choice;
                point
            })
        })
        .collect()
    }

    /// Returns the points that go farther than one on one axis.
    pub fn farther(&self, point: &Point) -> Vec<Point> {
        let on = |(axis, &from): (usize, &u8)| {
            let choices = self.axes[axis].iter().enumerate();
            let beyond = move |(at, choice): (usize, &Choice)| {
                let mut point = *point;
                point[axis] = u8::try_from(at).unwrap_or(u8::MAX);
                (point[axis] != from && choice.milder >> from & 1 == 1).then_some(point)
            };
            choices.filter_map(beyond).collect::<Vec<Point>>()
        };
        point.iter().enumerate().flat_map(on).collect()
    }

    /// Returns the changes to try first where a step does not fit: one an axis.
    pub fn first_aid(&self) -> Vec<Change> {
        let single = self.single().into_iter().flat_map(|point| self.changes(&point));
        let half = self.base.setup.seq_len / 2;
        single
            .filter(|change| match change {
                Change::MicroBatch(size, _) => *size == MicroBatch::ONE,
                Change::Checkpointing(value) => *value == Checkpointing::Full,
                Change::Optimizer(value) => *value == Optimizer::AdamWFused,
                Change::Precision(value) => *value == Precision::Bf16,
                Change::SeqLen(tokens) => *tokens == half,
                Change::Allocator(_) => true,
                _ => false,
            })
            .collect()
    }

    /// Returns points that go as far on each axis as is not refused, but for the optimizer: all of
    /// them.
    pub fn farthest(&self, is_refused: impl Fn(&Point) -> bool) -> Vec<Point> {
        let with = |point: &Point, axis: usize, choice: usize| {
            let mut point = *point;
            point[axis] = u8::try_from(choice).unwrap_or(u8::MAX);
            point
        };
        let mut point = [0; AXES];
        for (axis, choices) in self.axes.iter().enumerate().filter(|(axis, _)| *axis != OPTIMIZER) {
            let mut farther = (1..choices.len()).rev().map(|choice| with(&point, axis, choice));
            point = farther.find(|point| !is_refused(point)).unwrap_or(point);
        }
        (0..self.axes[OPTIMIZER].len()).map(|choice| with(&point, OPTIMIZER, choice)).collect()
    }

    /// Returns what decides on weights, gradients and the optimizer's state.
    pub fn held(point: &Point) -> [u8; 4] {
        [point[ZERO_GRAD], point[OPTIMIZER], point[PRECISION], point[TUNING]]
    }

    /// Returns what decides on all that is alive in forward and backward but the optimizer's state.
    pub fn with_any_optimizer(point: &Point) -> Point {
        let mut point = Lattice::with_any_allocator(point);
        point[OPTIMIZER] = 0;
        point
    }

    /// Returns what decides on all that is alive.
    pub fn with_any_allocator(point: &Point) -> Point {
        let mut point = *point;
        point[ALLOCATOR] = 0;
        point
    }

    fn choices<'a>(&'a self, point: &'a Point) -> impl Iterator<Item = &'a Choice> {
        self.axes.iter().zip(point).map(|(axis, &choice)| &axis[usize::from(choice)])
    }
}

/// Makes an axis whose choices are each milder than the next.
fn chain(changes: impl IntoIterator<Item = Vec<Change>>) -> Vec<Choice> {
    let all = std::iter::once(Vec::new()).chain(changes).enumerate();
    all.map(|(at, changes)| Choice { changes, milder: (1 << (at + 1)) - 1 }).collect()
}

/// Makes an axis of changes, each with those before it that are milder, by number from 1.
fn partial<const N: usize>(changes: Vec<(Change, [usize; N])>) -> Vec<Choice> {
    let mut axis = chain([]);
    for (change, milder) in changes {
        let own = 1 << axis.len();
        let milder = milder.iter().filter_map(|&at| axis.get(at)).map(|choice| choice.milder);
        let milder = milder.fold(own | 1, |all, one| all | one);
        axis.push(Choice { changes: vec![change], milder });
    }
    axis
}

/// Smaller micro-batches that divide the one asked for, each half of the one before or less, with as
/// many more micro-steps.
fn micro_batches(base: &Way) -> Vec<Choice> {
    let (asked, steps) = (base.setup.micro_batch.get(), base.setup.accumulation.get());
    let mut sizes = Vec::new();
    let mut size = asked;
    while size > 1 {
        size = (1..=size / 2).rev().find(|&part| asked.is_multiple_of(part)).unwrap_or(1);
        sizes.push(size);
    }
    chain(sizes.into_iter().filter_map(|size| {
        let steps = AccumulationSteps::new(asked / size * steps)?;
        Some(vec![Change::MicroBatch(MicroBatch::new(size)?, steps)])
    }))
}

fn checkpointing(model: &ModelConfig, base: &Way) -> Vec<Choice> {
    use Checkpointing::{Attention, Every, Full, None};
    if model.refuses_checkpointing() {
        return chain([]);
    }
    match base.setup.checkpointing {
        None => partial(vec![
            (Change::Checkpointing(Every(2)), [0, 0]),
            (Change::Checkpointing(Attention), [0, 0]),
            (Change::Checkpointing(Full), [1, 2]),
        ]),
        Attention | Every(_) => chain([vec![Change::Checkpointing(Full)]]),
        Full => chain([]),
    }
}

fn loss(base: &Way) -> Vec<Choice> {
    match base.setup.loss {
        Loss::Standard => chain([vec![Change::Loss(Loss::Fused)]]),
        Loss::Fused => chain([]),
    }
}

fn attention(base: &Way) -> Vec<Choice> {
    let to = |attention| vec![Change::Attention(attention)];
    match base.setup.attention {
        Attention::Eager => chain([to(Attention::Sdpa), to(Attention::Flash)]),
        Attention::Sdpa => chain([to(Attention::Flash)]),
        Attention::Flash => chain([]),
    }
}

fn zero_grad(base: &Way) -> Vec<Choice> {
    match base.setup.zero_grad {
        ZeroGrad::Zero => chain([vec![Change::ZeroGrad(ZeroGrad::None)]]),
        ZeroGrad::None => chain([]),
    }
}

/// Optimizers that hold less. The loop is not among them: the fused one does with less of all. Those
/// of bitsandbytes are the Trainer's, which hold more than by themselves: the change is written in
/// its words.
fn optimizers(base: &Way) -> Vec<Choice> {
    use Optimizer::{
        Adafactor, AdamW, AdamW8Bit, AdamW8BitHf, AdamWFused, AdamWLoop, PagedAdamW8Bit,
        PagedAdamW8BitHf, Sgd, SgdMomentum,
    };
    let to = Change::Optimizer;
    match base.setup.optimizer {
        AdamW | AdamWLoop => partial(vec![
            (to(AdamWFused), [0]),
            (to(AdamW8BitHf), [1]),
            (to(PagedAdamW8BitHf), [2]),
            (to(Adafactor), [1]),
            (to(SgdMomentum), [1]),
            (to(Sgd), [5]),
        ]),
        AdamWFused => partial(vec![
            (to(AdamW8BitHf), [0]),
            (to(PagedAdamW8BitHf), [1]),
            (to(Adafactor), [0]),
            (to(SgdMomentum), [0]),
            (to(Sgd), [4]),
        ]),
        AdamW8Bit => partial(vec![(to(PagedAdamW8Bit), [0]), (to(Adafactor), [0]), (to(Sgd), [0])]),
        AdamW8BitHf => {
            partial(vec![(to(PagedAdamW8BitHf), [0]), (to(Adafactor), [0]), (to(Sgd), [0])])
        }
        PagedAdamW8Bit | PagedAdamW8BitHf | Adafactor | SgdMomentum => chain([vec![to(Sgd)]]),
        Sgd => chain([]),
    }
}

fn precisions(base: &Way) -> Vec<Choice> {
    let bf16 = base.setup.gpu.has_bf16();
    let amp = if bf16 { Precision::AmpBf16 } else { Precision::AmpFp16 };
    let whole = bf16.then(|| vec![Change::Precision(Precision::Bf16)]);
    match base.setup.precision {
        Precision::Fp32 => chain([vec![Change::Precision(amp)]].into_iter().chain(whole)),
        Precision::AmpBf16 | Precision::AmpFp16 => chain(whole),
        Precision::Bf16 | Precision::Fp16 => chain([]),
    }
}

fn tunings(base: &Way) -> Vec<Choice> {
    let to = |how| Change::Quantize(Some(how));
    let tuning = &base.tuning;
    match (&tuning.lora, tuning.quantized) {
        // Which parameters are frozen was chosen; adapters have others.
        (None, _) if tuning.frozen.is_some() => chain([]),
        (None, _) => {
            let lora = Lora { rank: RANK, dropout: 0.0, targets: Targets::AllLinear };
            let lora = Change::Lora(Some(lora));
            chain([
                vec![lora.clone()],
                vec![lora.clone(), to(Quantize::Int8)],
                vec![lora, to(Quantize::Nf4)],
            ])
        }
        (Some(_), None) => chain([vec![to(Quantize::Int8)], vec![to(Quantize::Nf4)]]),
        (Some(_), Some(Quantize::Int8)) => chain([vec![to(Quantize::Nf4)]]),
        (Some(_), Some(Quantize::Nf4)) => chain([]),
    }
}

fn allocators(base: &Way) -> Vec<Choice> {
    match base.setup.allocator {
        Allocator::Default => chain([vec![Change::Allocator(Allocator::Expandable)]]),
        Allocator::Expandable => chain([]),
    }
}

/// Returns shorter sequences, where samples are text.
fn lengths(model: &ModelConfig, base: &Way) -> Vec<Choice> {
    if model.image_size().is_some() || model.reads_audio() {
        return chain([]);
    }
    let halves = std::iter::successors(Some(base.setup.seq_len), |&tokens| {
        (tokens > SHORTEST).then_some(tokens / 2)
    });
    chain(halves.skip(1).take(HALVINGS).map(|tokens| vec![Change::SeqLen(tokens)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::config_json;
    use crate::model::tuning::Tuning;
    use crate::profile::model::ModelProfile;
    use crate::step::setup::Setup;

    fn lattice(change: impl Fn(&mut Setup)) -> Lattice {
        let profile = ModelProfile::built_in("llama-3.2-1b").unwrap();
        let model = config_json::from_map(&profile.config).unwrap().config;
        let mut setup = Setup {
            micro_batch: MicroBatch::new(6).unwrap(),
            seq_len: 2048,
            zero_grad: ZeroGrad::Zero,
            attention: Attention::Eager,
            ..Setup::PLAIN
        };
        change(&mut setup);
        Lattice::of(&model, &Way { setup, tuning: Tuning::default() })
    }

    #[test]
    fn to_be_milder_is_an_order_and_depth_grows_with_it() {
        let lattice = lattice(|_| ());
        let points = lattice.points();
        assert_eq!(points.len(), 3 * 4 * 2 * 3 * 2 * 7 * 3 * 4 * 3 * 2);
        let some: Vec<&Point> = points.iter().step_by(97).collect();
        for a in &some {
            assert!(lattice.is_milder(&[0; AXES], a), "what is asked for is milder than all");
            for b in some.iter().filter(|b| lattice.is_milder(a, b) && a != *b) {
                assert!(!lattice.is_milder(b, a), "{a:?} {b:?}");
                assert!(lattice.depth(a) < lattice.depth(b), "{a:?} {b:?}");
                for c in some.iter().filter(|c| lattice.is_milder(b, c)) {
                    assert!(lattice.is_milder(a, c), "{a:?} {b:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn smaller_micro_batches_keep_the_samples() {
        let lattice = lattice(|_| ());
        let sizes: Vec<(u64, u64)> = lattice
            .single()
            .iter()
            .map(|point| lattice.way(point).setup)
            .map(|setup| (setup.micro_batch.get(), setup.accumulation.get()))
            .filter(|&(size, _)| size < 6)
            .collect();
        assert_eq!(sizes, [(3, 2), (1, 6)]);
    }

    #[test]
    fn flash_is_as_far_as_attention_goes_where_it_is_among_the_choices() {
        let attention = |lattice: &Lattice| {
            let farthest = lattice.farthest(|_| false);
            lattice.way(&farthest[0]).setup.attention
        };
        let lattice = lattice(|_| ());
        assert_eq!(attention(&lattice), Attention::Flash);
        let without = lattice.without_last(&Change::Attention(Attention::Flash));
        assert_eq!(attention(&without), Attention::Sdpa);
    }

    #[test]
    fn nothing_is_offered_that_is_there_already() {
        let lattice = lattice(|setup| {
            setup.micro_batch = MicroBatch::ONE;
            setup.precision = Precision::Bf16;
            setup.optimizer = Optimizer::Sgd;
            setup.checkpointing = Checkpointing::Full;
            setup.loss = Loss::Fused;
            setup.attention = Attention::Flash;
            setup.zero_grad = ZeroGrad::None;
            setup.seq_len = 512;
            setup.allocator = Allocator::Expandable;
        });
        let changed: Vec<String> = lattice
            .single()
            .iter()
            .map(|point| lattice.changes(point).iter().map(Change::typed).collect())
            .collect();
        let adapters = "--lora r=16,targets=all-linear";
        assert_eq!(
            changed,
            [
                adapters.to_owned(),
                format!("{adapters}--quantize int8"),
                format!("{adapters}--quantize nf4")
            ]
        );
    }
}
