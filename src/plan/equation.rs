//! The batch equation as each framework solves it, and the numbers that would mend a broken one.

use crate::plan::divisors::divisors;
use crate::units::counted;

/// How a framework relates its three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// DeepSpeed: any two of three, or one, and then a check.
    DeepSpeed,
    /// The product is the effective batch: Hugging Face and its kin.
    Product,
    /// Axolotl: `batch_size` is micro-batch x accumulation, of one device.
    Axolotl,
    /// The accumulation follows from the whole: torchtitan, Megatron.
    Derived,
}

/// The numbers of a configuration, those that it says. They may be zero or negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// Samples of a micro-step on a device (or tokens, all of them alike).
    pub micro_batch: Option<i64>,
    /// Micro-steps.
    pub accumulation: Option<i64>,
    /// Samples of an optimizer step; with [`Rule::Axolotl`] of one device.
    pub whole: Option<i64>,
}

/// The numbers as the framework will use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solved {
    /// Samples of a micro-step on a device.
    pub micro_batch: u64,
    /// Micro-steps.
    pub accumulation: u64,
    /// Samples of an optimizer step over all devices.
    pub effective: u64,
}

/// One of the three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The micro-batch.
    MicroBatch,
    /// The accumulation.
    Accumulation,
    /// The whole.
    Whole,
}

/// A configuration whose numbers do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong, in the numbers that were written.
    pub what: String,
    /// The number to blame.
    pub blame: Which,
    /// What mends it: numbers to change, and to write where none is.
    pub repairs: Vec<(Which, u64)>,
}

/// The largest number that a batch is worked out with; a slip of the hand is larger.
const MOST: i64 = 1 << 40;

impl Said {
    fn get(&self, which: Which) -> Option<i64> {
        match which {
            Which::MicroBatch => self.micro_batch,
            Which::Accumulation => self.accumulation,
            Which::Whole => self.whole,
        }
    }

    fn without(self, which: Which) -> Said {
        match which {
            Which::MicroBatch => Said { micro_batch: None, ..self },
            Which::Accumulation => Said { accumulation: None, ..self },
            Which::Whole => Said { whole: None, ..self },
        }
    }

    /// Writes repairs into what is said.
    #[must_use]
    pub fn mended(mut self, repairs: &[(Which, u64)]) -> Said {
        for (which, number) in repairs {
            let number = i64::try_from(*number).ok();
            match which {
                Which::MicroBatch => self.micro_batch = number,
                Which::Accumulation => self.accumulation = number,
                Which::Whole => self.whole = number,
            }
        }
        self
    }

    fn number(&self, which: Which) -> Option<u64> {
        self.get(which).and_then(|number| u64::try_from(number).ok())
    }
}

/// Solves a configuration for `replicas` devices (at least one), as the framework would.
///
/// # Errors
/// When the framework would refuse it, or would train with another batch than it says.
pub fn solve(rule: Rule, said: Said, replicas: u64) -> Result<Solved, Broken> {
    for blame in [Which::MicroBatch, Which::Accumulation, Which::Whole] {
        let Some(number) = said.get(blame).filter(|number| !(1..=MOST).contains(number)) else {
            continue;
        };
        let rest = said.without(blame);
        let sane = |n: Option<i64>| n.filter(|number| (1..=MOST).contains(number));
        let rest = Said {
            micro_batch: sane(rest.micro_batch),
            accumulation: sane(rest.accumulation),
            whole: sane(rest.whole),
        };
        let triple = mend(rest, rest.number(Which::Whole), per_whole(rule, replicas));
        let what = if number < 1 {
            format!("{number} is no batch: it must be at least 1")
        } else {
            format!("{number} is beyond any batch")
        };
        let mut repairs = changes(rule, said, triple);
        if solve(rule, said.mended(&repairs), replicas).is_err() {
            // Something else is missing as well: half a cure is none.
            repairs.clear();
        }
        return Err(Broken { what, blame, repairs });
    }
    match rule {
        Rule::DeepSpeed => deepspeed(said, replicas),
        Rule::Product => product(said, replicas),
        Rule::Axolotl => axolotl(said, replicas),
        Rule::Derived => derived(said, replicas),
    }
}

/// Says what to change so that a configuration that is solved reaches another effective batch.
pub fn reach(rule: Rule, said: Said, solved: Solved, target: u64, replicas: u64) -> Broken {
    let Solved { micro_batch, accumulation, effective } = solved;
    let hint = Said { micro_batch: i64::try_from(micro_batch).ok(), ..Said::default() };
    let whole = match rule {
        Rule::Axolotl => target / replicas,
        _ => target,
    };
    let triple = mend(hint, Some(whole), per_whole(rule, replicas));
    Broken {
        what: format!(
            "{micro_batch} x {accumulation} x {} is {effective}, not {target}",
            counted(replicas, "device")
        ),
        blame: if said.accumulation.is_some() { Which::Accumulation } else { Which::MicroBatch },
        repairs: changes(rule, said, triple),
    }
}

/// Devices that share the number called whole.
const fn per_whole(rule: Rule, replicas: u64) -> u64 {
    match rule {
        Rule::Axolotl => 1,
        _ => replicas,
    }
}

/// DeepSpeed 0.19.8, `runtime/config.py`: `_set_batch_related_parameters`, then
/// `_batch_assertion`. tests/frameworks.rs compares it with
/// what they made of 26,325 cases.
fn deepspeed(said: Said, replicas: u64) -> Result<Solved, Broken> {
    let micro = said.number(Which::MicroBatch);
    let steps = said.number(Which::Accumulation);
    let whole = said.number(Which::Whole);
    let (micro_batch, accumulation, effective) = match (whole, micro, steps) {
        (Some(whole), Some(micro), Some(steps)) => (micro, steps, whole),
        (Some(whole), Some(micro), None) => (micro, whole / micro / replicas, whole),
        (Some(whole), None, Some(steps)) => (whole / replicas / steps, steps, whole),
        (None, Some(micro), Some(steps)) => (micro, steps, product_of(micro, steps, replicas)),
        (Some(whole), None, None) => (whole / replicas, 1, whole),
        (None, Some(micro), None) => (micro, 1, product_of(micro, 1, replicas)),
        (None, None, steps) => {
            return Err(Broken {
                what: "neither train_batch_size nor train_micro_batch_size_per_gpu is said"
                    .to_owned(),
                blame: if steps.is_some() { Which::Accumulation } else { Which::Whole },
                repairs: Vec::new(),
            });
        }
    };
    let product = product_of(micro_batch, accumulation, replicas);
    if product == effective && product > 0 {
        return Ok(Solved { micro_batch, accumulation, effective });
    }
    let devices = counted(replicas, "device");
    let what = match (micro, steps) {
        (Some(micro), Some(steps)) => {
            format!("{effective} is not {micro} x {steps} x {devices}, {product}")
        }
        (Some(micro), None) => {
            format!("{effective} is no multiple of {micro} x {devices}")
        }
        (None, Some(steps)) => {
            let steps = counted(steps, "micro-step");
            format!("{effective} is no multiple of {steps} x {devices}")
        }
        (None, None) => format!("{effective} is no multiple of {devices}"),
    };
    let triple = mend(said, whole, replicas);
    Err(Broken { what, blame: Which::Whole, repairs: changes(Rule::DeepSpeed, said, triple) })
}

fn product(said: Said, replicas: u64) -> Result<Solved, Broken> {
    let Some(micro_batch) = said.number(Which::MicroBatch) else {
        return Err(unsaid(Which::MicroBatch, "no micro-batch is said"));
    };
    let accumulation = said.number(Which::Accumulation).unwrap_or(1);
    let effective = product_of(micro_batch, accumulation, replicas);
    Ok(Solved { micro_batch, accumulation, effective })
}

/// Axolotl, `utils/schemas/validation.py` and `utils/config/__init__.py`: two of three must be
/// said, `gradient_accumulation_steps` and `batch_size` not together, and the quotient is floored.
fn axolotl(said: Said, replicas: u64) -> Result<Solved, Broken> {
    let Said { micro_batch, accumulation, whole } = said;
    match (micro_batch, accumulation, whole) {
        (_, Some(_), Some(_)) => Err(Broken {
            what: "Axolotl refuses gradient_accumulation_steps and batch_size together".to_owned(),
            blame: Which::Whole,
            repairs: Vec::new(),
        }),
        (Some(_), Some(_), None) => product(said, replicas),
        (Some(micro), None, Some(batch)) if batch % micro == 0 => {
            product(Said { accumulation: Some(batch / micro), ..said }, replicas)
        }
        (Some(micro), None, Some(batch)) => {
            let triple = mend(said, said.number(Which::Whole), 1);
            Err(Broken {
                what: format!(
                    "{batch} is no multiple of {micro}: Axolotl floors it to {}",
                    batch / micro * micro
                ),
                blame: Which::Whole,
                repairs: changes(Rule::Axolotl, said, triple),
            })
        }
        _ => Err(unsaid(
            if micro_batch.is_some() { Which::Accumulation } else { Which::MicroBatch },
            "Axolotl wants micro_batch_size and gradient_accumulation_steps",
        )),
    }
}

/// torchtitan's `trainer.py` and Megatron's `num_microbatches_calculator.py`: the whole must be a
/// multiple of what all devices do in one micro-step, and is that where it is not said.
fn derived(said: Said, replicas: u64) -> Result<Solved, Broken> {
    let Some(micro_batch) = said.number(Which::MicroBatch) else {
        return Err(unsaid(Which::MicroBatch, "no micro-batch is said"));
    };
    let once = product_of(micro_batch, 1, replicas);
    let effective = said.number(Which::Whole).unwrap_or(once);
    if effective.is_multiple_of(once) {
        return Ok(Solved { micro_batch, accumulation: effective / once, effective });
    }
    let triple = mend(said, Some(effective), replicas);
    Err(Broken {
        what: format!(
            "{effective} is no multiple of {micro_batch} x {}",
            counted(replicas, "device")
        ),
        blame: Which::Whole,
        repairs: changes(Rule::Derived, said, triple),
    })
}

fn unsaid(which: Which, what: &str) -> Broken {
    Broken { what: what.to_owned(), blame: which, repairs: Vec::new() }
}

fn product_of(micro_batch: u64, accumulation: u64, replicas: u64) -> u64 {
    micro_batch.saturating_mul(accumulation).saturating_mul(replicas)
}

/// Finds numbers that go together near those that are said: the whole stays if devices divide it,
/// the micro-batch shrinks to what divides and never grows, since what fits is smaller.
fn mend(said: Said, whole: Option<u64>, replicas: u64) -> Solved {
    let micro = said.number(Which::MicroBatch);
    let steps = said.number(Which::Accumulation);
    let Some(whole) = whole else {
        let (micro_batch, accumulation) = (micro.unwrap_or(1), steps.unwrap_or(1));
        let effective = product_of(micro_batch, accumulation, replicas);
        return Solved { micro_batch, accumulation, effective };
    };
    if whole.is_multiple_of(replicas) {
        let samples = whole / replicas;
        let largest = |most: u64| divisors(samples).into_iter().rfind(|d| *d <= most).unwrap_or(1);
        let micro_batch = match (micro, steps) {
            (Some(micro), _) => largest(micro),
            (None, Some(steps)) => largest((samples / steps).max(1)),
            (None, None) => samples,
        };
        return Solved { micro_batch, accumulation: samples / micro_batch, effective: whole };
    }
    let micro_batch = match (micro, steps) {
        (Some(micro), _) => micro,
        (None, Some(steps)) => (whole / replicas / steps).max(1),
        (None, None) => (whole / replicas).max(1),
    };
    let once = product_of(micro_batch, 1, replicas);
    let accumulation = (whole.saturating_add(once / 2) / once).max(1);
    Solved { micro_batch, accumulation, effective: once.saturating_mul(accumulation) }
}

/// Lists what differs between what is said and what goes together. What a framework works out by
/// itself need not be written.
fn changes(rule: Rule, said: Said, triple: Solved) -> Vec<(Which, u64)> {
    let Solved { micro_batch, accumulation, effective } = triple;
    let all = [
        (Which::MicroBatch, micro_batch),
        (Which::Accumulation, accumulation),
        (Which::Whole, effective),
    ];
    let differs = |(which, number): &(Which, u64)| match said.number(*which) {
        Some(said) => said != *number,
        // A number that is negative is written, and differs.
        None if said.get(*which).is_some() => true,
        None => match (rule, which) {
            (Rule::Product, Which::Accumulation) => *number != 1,
            (Rule::Derived, Which::Whole) => accumulation != 1,
            (Rule::Axolotl, Which::Accumulation) => said.whole.is_none(),
            (_, Which::MicroBatch) => !matches!(rule, Rule::DeepSpeed),
            _ => false,
        },
    };
    all.into_iter().filter(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(micro: i64, steps: i64, whole: i64) -> Said {
        let some = |n: i64| (n != 0).then_some(n);
        Said { micro_batch: some(micro), accumulation: some(steps), whole: some(whole) }
    }

    #[test]
    fn deepspeed_works_out_what_is_not_said() {
        let solved = |m, s, w| {
            let Solved { micro_batch, accumulation, effective } =
                solve(Rule::DeepSpeed, said(m, s, w), 4).expect("consistent");
            (micro_batch, accumulation, effective)
        };
        assert_eq!(solved(6, 11, 0), (6, 11, 264));
        assert_eq!(solved(6, 0, 264), (6, 11, 264));
        assert_eq!(solved(0, 11, 264), (6, 11, 264));
        assert_eq!(solved(0, 0, 264), (66, 1, 264));
        // The typing error that DeepSpeed ignores: micro-batch 4, accumulation 1.
        assert_eq!(solved(0, 0, 16), (4, 1, 16));
    }

    #[test]
    fn a_broken_equation_names_the_numbers_that_were_written() {
        let broken = solve(Rule::DeepSpeed, said(6, 0, 256), 4).expect_err("256 = 6 x ? x 4");
        assert_eq!(broken.what, "256 is no multiple of 6 x 4 devices");
        assert_eq!(broken.repairs, [(Which::MicroBatch, 4)]);
        // github.com/OpenRLHF/OpenRLHF/issues/346: 256 != 2 x 18 x 7.
        let broken = solve(Rule::DeepSpeed, said(2, 18, 256), 7).expect_err("7 devices");
        assert_eq!(broken.what, "256 is not 2 x 18 x 7 devices, 252");
        assert_eq!(broken.repairs, [(Which::Whole, 252)]);
    }

    #[test]
    fn every_repair_makes_the_numbers_go_together() {
        for rule in [Rule::DeepSpeed, Rule::Product, Rule::Axolotl, Rule::Derived] {
            for replicas in [1, 3, 4, 7] {
                for micro in -1..8 {
                    for steps in -1..6 {
                        for whole in [-5, 0, 1, 12, 25, 64, 250] {
                            let said = said(micro, steps, whole);
                            let Err(broken) = solve(rule, said, replicas) else { continue };
                            if broken.repairs.is_empty() {
                                continue;
                            }
                            let fixed = said.mended(&broken.repairs);
                            let solved = solve(rule, fixed, replicas);
                            let refused = rule == Rule::Axolotl
                                && fixed.accumulation.is_some()
                                && fixed.whole.is_some();
                            assert!(
                                solved.is_ok() || refused,
                                "{rule:?} {said:?} {replicas}: {broken:?}, then {solved:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn another_effective_batch_is_reached_by_what_is_written() {
        let at = said(6, 4, 0);
        let solved = solve(Rule::Product, at, 4).expect("a product");
        let broken = reach(Rule::Product, at, solved, 264, 4);
        assert_eq!(broken.repairs, [(Which::Accumulation, 11)]);
        let broken = reach(Rule::Product, at, solved, 256, 4);
        assert_eq!(broken.repairs, [(Which::MicroBatch, 4), (Which::Accumulation, 16)]);
    }

    #[test]
    fn axolotl_floors_and_is_told() {
        assert!(solve(Rule::Axolotl, said(4, 0, 18), 2).is_err_and(|b| b.what.contains("to 16")));
        assert_eq!(solve(Rule::Axolotl, said(4, 0, 16), 2).expect("even").effective, 32);
        assert!(solve(Rule::Axolotl, said(4, 4, 16), 2).is_err());
        assert!(solve(Rule::Axolotl, said(4, 0, 0), 2).is_err());
    }
}
