//! The Pareto front of suggestions: each is the cheapest in some respect, or takes the least.

use crate::plan::advise::advice::{Standing, Suggestion};

/// Puts the front first and what others beat behind it, what is beaten by the fewest first; of each
/// the cheapest first.
///
/// One beats another when it costs no more in any respect and takes no more memory; of equals the
/// first beats.
pub fn ranked(mut all: Vec<Suggestion>) -> Vec<Suggestion> {
    all.sort_by(|a, b| a.cost.order(&b.cost).then(a.taken.cmp(&b.taken)));
    let standing = |at: usize| {
        let one = &all[at];
        let beats = |(place, other): (usize, &Suggestion)| {
            let no_more = other.cost.is_no_more_than(&one.cost) && other.taken <= one.taken;
            let no_less = one.cost.is_no_more_than(&other.cost) && one.taken <= other.taken;
            no_more && (place < at || !no_less)
        };
        match all.iter().enumerate().filter(|&other| other.0 != at && beats(other)).count() {
            0 => Standing::Front,
            many => Standing::Beaten(many),
        }
    };
    let standings: Vec<Standing> = (0..all.len()).map(standing).collect();
    for (one, standing) in all.iter_mut().zip(standings) {
        one.standing = standing;
    }
    all.sort_by_key(|one| match one.standing {
        Standing::Front => 0,
        Standing::Beaten(many) => many,
        Standing::MoreThanNeeded => usize::MAX,
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tuning::Tuning;
    use crate::plan::advise::change::{Change, Departure, Way};
    use crate::plan::advise::cost::Cost;
    use crate::step::setup::Setup;
    use crate::units::Bytes;

    fn one(departure: Departure, compute: f64, taken: u64) -> Suggestion {
        let setup = Setup { seq_len: 8, ..Setup::PLAIN };
        Suggestion {
            changes: vec![Change::SeqLen(8)],
            way: Way { setup, tuning: Tuning::default() },
            taken: Bytes::gib(taken),
            fits: true,
            standing: Standing::Front,
            cost: Cost { departure, compute, host: Bytes::ZERO, sent: Bytes::ZERO, changes: 1 },
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
        assert_eq!(ranked[4..], [Suggestion { standing: Standing::Beaten(2), ..beaten }]);
    }

    #[test]
    fn of_equals_one_beats() {
        let twice = vec![one(Departure::NONE, 1.0, 1), one(Departure::NONE, 1.0, 1)];
        let ranked: Vec<Standing> = ranked(twice).iter().map(|one| one.standing).collect();
        assert_eq!(ranked, [Standing::Front, Standing::Beaten(1)]);
    }

    #[test]
    fn what_fewer_beat_comes_first() {
        let all = vec![
            one(Departure::NONE, 1.3, 10),
            one(Departure::ROUNDING, 1.35, 11),
            one(Departure::ROUNDING, 1.3, 10),
            one(Departure::ADAPTERS, 1.4, 11),
        ];
        let ranked: Vec<(f64, Standing)> =
            ranked(all).iter().map(|one| (one.cost.compute, one.standing)).collect();
        let once = Standing::Beaten(1);
        assert_eq!(
            ranked,
            [(1.3, Standing::Front), (1.3, once), (1.4, once), (1.35, Standing::Beaten(2))]
        );
    }
}
