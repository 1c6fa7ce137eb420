//! The Pareto front of suggestions: each is the cheapest in some respect, or takes the least.

use crate::plan::advise::advice::Suggestion;

/// Puts the front first and what another one beats behind it, marked so; of both the cheapest first.
///
/// One beats another when it costs no more in any respect and takes no more memory; of equals the
/// first beats.
pub fn ranked(mut all: Vec<Suggestion>) -> Vec<Suggestion> {
    all.sort_by(|a, b| a.cost.order(&b.cost).then(a.taken.cmp(&b.taken)));
    let (mut front, mut beaten): (Vec<Suggestion>, Vec<Suggestion>) = (Vec::new(), Vec::new());
    for one in all {
        let beats =
            |other: &Suggestion| other.cost.is_no_more_than(&one.cost) && other.taken <= one.taken;
        if front.iter().any(beats) {
            beaten.push(Suggestion { beaten: true, ..one });
        } else {
            front.push(one);
        }
    }
    front.extend(beaten);
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tuning::Tuning;
    use crate::plan::advise::change::{Change, Departure, Way};
    use crate::plan::advise::cost::Cost;
    use crate::step::setup::{
        Attention, AttentionMask, Checkpointing, GpuArch, Loss, Optimizer, Precision, Setup,
        Version, ZeroGrad,
    };
    use crate::units::{AccumulationSteps, Bytes, MicroBatch};

    fn one(departure: Departure, compute: f64, taken: u64) -> Suggestion {
        let setup = Setup {
            micro_batch: MicroBatch::ONE,
            accumulation: AccumulationSteps::ONE,
            seq_len: 8,
            label_len: None,
            precision: Precision::Fp32,
            optimizer: Optimizer::AdamW,
            clip: None,
            zero_grad: ZeroGrad::None,
            checkpointing: Checkpointing::None,
            attention: Attention::Sdpa,
            attention_mask: AttentionMask::Ones,
            loss: Loss::Standard,
            torch: Version::new(2, 15),
            transformers: Version::new(5, 23),
            gpu: GpuArch::A100,
        };
        Suggestion {
            changes: vec![Change::SeqLen(8)],
            way: Way { setup, tuning: Tuning::default() },
            taken: Bytes::gib(taken),
            fits: true,
            beaten: false,
            cost: Cost { departure, compute, host: Bytes::ZERO, changes: 1 },
            largest: None,
        }
    }

    #[test]
    fn what_another_one_beats_in_every_respect_stands_behind() {
        let same = one(Departure::NONE, 1.3, 10);
        let beaten = one(Departure::ROUNDING, 1.3, 11);
        let needs_less = one(Departure::ROUNDING, 1.3, 9);
        let cheaper = one(Departure::ADAPTERS, 0.7, 12);
        let other_kind = one(Departure::LENGTH, 1.0, 12);
        let all = [&cheaper, &beaten, &other_kind, &needs_less, &same].map(Clone::clone);
        let ranked = ranked(all.to_vec());
        assert_eq!(ranked[..4], [same, needs_less, cheaper, other_kind]);
        assert_eq!(ranked[4..], [Suggestion { beaten: true, ..beaten }]);
    }

    #[test]
    fn of_equals_one_beats() {
        let twice = vec![one(Departure::NONE, 1.0, 1), one(Departure::NONE, 1.0, 1)];
        let ranked: Vec<bool> = ranked(twice).iter().map(|one| one.beaten).collect();
        assert_eq!(ranked, [false, true]);
    }
}
