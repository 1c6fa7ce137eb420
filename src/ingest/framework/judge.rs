//! What a configuration says, held against the equation, the devices and the target: findings.

use crate::ingest::framework::Configuration;
use crate::ingest::framework::claims::{Amount, Claim};
use crate::ingest::framework::document::{Document, Span};
use crate::ingest::framework::edit::{Edit, rename, write_number};
use crate::ingest::framework::ramp;
use crate::ingest::framework::training::LAYERWISE;
use crate::plan::equation::{Broken, Rule, Said, Solved, Which, reach, solve};
use crate::plan::finding::{Finding, Level, Verdict};
use crate::units::counted;

/// What flags say about the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given {
    /// `--micro-batch`, in samples.
    pub micro_batch: Option<u64>,
    /// `--accumulation`.
    pub accumulation: Option<u64>,
    /// The effective batch to reach, in samples.
    pub target: Option<u64>,
    /// Tokens a sample, where they are known.
    pub seq_len: Option<u64>,
}

/// What became of a configuration's numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// What was found.
    pub findings: Vec<Finding>,
    /// The batch in samples.
    pub batch: Option<Solved>,
    /// Replicas.
    pub data_parallel: Option<u64>,
    /// Why the batch could not be worked out, where that is no finding.
    pub open: Option<String>,
    /// What would mend the text.
    pub edits: Vec<Edit>,
}

/// Judges a configuration on `world` devices.
pub fn judge(configuration: &Configuration, world: u64, given: &Given) -> Judged {
    let claims = &configuration.claims;
    let mut judged = Judged::default();
    keys(configuration, &mut judged);
    let Some(replicas) = replicas(configuration, world, &mut judged) else { return judged };
    judged.data_parallel = Some(replicas);
    let unit = match (claims.in_tokens, given.seq_len) {
        (false, _) => 1,
        (true, Some(tokens)) => tokens,
        (true, None) => {
            judged.open = Some("its batch counts tokens: --seq-len says how many a sample".into());
            return judged;
        }
    };
    let Some(said) = numbers(configuration, unit, given, &mut judged) else { return judged };
    let solved = match solve(claims.rule, said, replicas) {
        Ok(solved) => solved,
        Err(broken) => {
            judged.equation(configuration, &broken);
            return judged;
        }
    };
    if let Some(target) = given.target.map(|target| target.saturating_mul(unit))
        && target != solved.effective
    {
        let broken = reach(claims.rule, said, solved, target, replicas);
        judged.equation(configuration, &broken);
    }
    let whole = [solved.micro_batch, solved.effective].iter().all(|n| n.is_multiple_of(unit));
    if !whole {
        let broken = Broken {
            what: format!("{} tokens are no whole samples of {unit}", solved.micro_batch),
            blame: Which::MicroBatch,
            repairs: Vec::new(),
        };
        return {
            judged.equation(configuration, &broken);
            judged
        };
    }
    let batch = Solved {
        micro_batch: solved.micro_batch / unit,
        effective: solved.effective / unit,
        ..solved
    };
    judged.batch = Some(batch);
    judged.in_backward(configuration, &batch);
    if let Some((finding, edit)) = ramp::judge(configuration, &solved, replicas) {
        judged.findings.push(finding);
        judged.edits.extend(edit);
    }
    if judged.findings.iter().all(|finding| finding.verdict != Verdict::Equation) {
        judged.fine(configuration, &batch, replicas);
    }
    judged
}

/// Notes keys that are not known, and what is not what it seems.
fn keys(configuration: &Configuration, judged: &mut Judged) {
    let Configuration { document, claims, .. } = configuration;
    for unknown in &claims.unknown {
        let near = unknown.near.map_or(String::new(), |near| format!("; `{near}` is near"));
        judged.findings.push(Finding {
            verdict: Verdict::UnknownKey,
            level: Level::Warning,
            place: Some(document.place(unknown.at)),
            key: Some(unknown.key.clone()),
            value: None,
            message: format!("no key of {}: {}{near}", claims.dialect.name(), unknown.fate),
            repairs: Vec::new(),
        });
        if let Some(near) = unknown.near.filter(|near| unknown.sure && document.get(near).is_none())
        {
            judged.edits.push(rename(document, unknown.at, near));
        }
    }
    for warning in &claims.warnings {
        let words = warning.value.clone();
        judged.findings.push(finding(document, Verdict::Caution, Level::Warning, warning, words));
    }
}

/// Divides the devices by those that work on one replica.
fn replicas(configuration: &Configuration, world: u64, judged: &mut Judged) -> Option<u64> {
    let Configuration { document, claims, .. } = configuration;
    let mut replicas = world;
    for claim in &claims.model_parallel {
        let Amount::Number(number) = claim.value else {
            judged.amount(configuration, claim);
            judged.open = Some(format!("`{}` is not known", claim.key));
            return None;
        };
        let degree = u64::try_from(number).ok().filter(|degree| *degree > 0);
        match degree.filter(|degree| replicas.is_multiple_of(*degree)) {
            Some(degree) => replicas /= degree,
            None => {
                let what = format!("{} are no multiple of {number}", counted(world, "device"));
                let found = finding(document, Verdict::Equation, Level::Error, claim, what);
                judged.findings.push(found);
                return None;
            }
        }
    }
    Some(replicas)
}

/// Collects the three numbers, flags where the file leaves them open; `None` when one stays open.
fn numbers(
    configuration: &Configuration,
    unit: u64,
    given: &Given,
    judged: &mut Judged,
) -> Option<Said> {
    let Configuration { document, claims, .. } = configuration;
    let flags = [given.micro_batch.map(|n| n.saturating_mul(unit)), given.accumulation, None];
    let claimed = [&claims.micro_batch, &claims.accumulation, &claims.whole];
    let mut said = [None; 3];
    let (mut open, mut autos, mut wrong) = (Vec::new(), 0, false);
    for at in 0..3 {
        let flag = flags[at].and_then(|number| i64::try_from(number).ok());
        said[at] = flag;
        let Some(claim) = claimed[at] else { continue };
        judged.amount(configuration, claim);
        match &claim.value {
            Amount::Number(number) if flag.is_none_or(|flag| flag == *number) => {
                said[at] = Some(*number);
            }
            Amount::Number(number) => {
                let what = format!("the file says {number}, and a flag says {}", flag.unwrap_or(0));
                let found = finding(document, Verdict::Invalid, Level::Error, claim, what);
                judged.findings.push(found);
                wrong = true;
            }
            Amount::Auto if flag.is_none() => {
                autos += 1;
                open.push(claim.key.as_str());
            }
            Amount::Variable(_) if flag.is_none() => open.push(claim.key.as_str()),
            Amount::Wrong(_) => wrong = true,
            Amount::Auto | Amount::Variable(_) => {}
        }
    }
    if wrong {
        return None;
    }
    let [mut micro_batch, accumulation, whole] = said;
    if claims.micro_batch.is_none() && micro_batch.is_none() && claims.rule != Rule::DeepSpeed {
        micro_batch = claims.default_micro_batch.and_then(|n| i64::try_from(n).ok());
    }
    let said = Said { micro_batch, accumulation, whole };
    // Hugging Face fills `auto` in so that the three go together: the whole follows from the rest.
    let follows = claims.rule == Rule::DeepSpeed && micro_batch.is_some() && accumulation.is_some();
    let only_whole = claims.whole.iter().all(|claim| open == [claim.key.as_str()]);
    let settled = open.is_empty() || (follows && only_whole);
    if !settled {
        let by_construction = autos == open.len() && whole.is_none();
        if !by_construction {
            let keys = open.join(", ");
            judged.open =
                Some(format!("{keys}: not known; --micro-batch and --accumulation say it"));
        }
        return None;
    }
    if claims.rule == Rule::Product && micro_batch.is_none() && claims.keys()[0].is_empty() {
        judged.open = Some("its micro-batch is the DataLoader's: --micro-batch says it".to_owned());
        return None;
    }
    Some(said)
}

impl Judged {
    /// Notes an amount that is no number, and the number that it was probably meant to be.
    fn amount(&mut self, configuration: &Configuration, claim: &Claim<Amount>) {
        let document = &configuration.document;
        let (verdict, level, words) = match &claim.value {
            Amount::Number(_) => return,
            Amount::Auto => (
                Verdict::Unresolved,
                Level::Warning,
                "Hugging Face fills it in, DeepSpeed alone fails on it".to_owned(),
            ),
            Amount::Variable(name) => {
                (Verdict::Unresolved, Level::Warning, format!("{name} is not resolved here"))
            }
            Amount::Wrong(words) => (Verdict::Invalid, Level::Error, words.clone()),
        };
        let mut found = finding(document, verdict, level, claim, words);
        if let Some(number) =
            meant(document.slice(claim.at)).filter(|_| verdict == Verdict::Invalid)
        {
            found.repairs.push((claim.key.clone(), number.to_string()));
            self.edits.extend(write_number(
                configuration,
                &claim.key,
                Some(claim.at),
                None,
                number,
            ));
        }
        self.findings.push(found);
    }

    /// Notes numbers that do not go together, and what would mend them.
    fn equation(&mut self, configuration: &Configuration, broken: &Broken) {
        let Configuration { document, claims, .. } = configuration;
        let claimed = [&claims.micro_batch, &claims.accumulation, &claims.whole];
        let index = |which| match which {
            Which::MicroBatch => 0,
            Which::Accumulation => 1,
            Which::Whole => 2,
        };
        let blamed = claimed[index(broken.blame)].as_ref();
        let anchor = blamed.or(claimed.iter().find_map(|claim| claim.as_ref()));
        let mut repairs = Vec::new();
        for (which, number) in &broken.repairs {
            let (at, key) = (index(*which), claims.keys()[index(*which)]);
            let there: Option<Span> = claimed[at].as_ref().map(|claim| claim.at);
            let key = claimed[at].as_ref().map_or(key, |claim| claim.key.as_str());
            if key.is_empty() {
                continue;
            }
            repairs.push((key.to_owned(), number.to_string()));
            let near = anchor.map(|claim| (claim.key.as_str(), claim.at));
            self.edits.extend(write_number(configuration, key, there, near, *number));
        }
        let (place, key, value) = match anchor {
            Some(claim) => (
                Some(document.place(claim.at)),
                Some(claim.key.clone()),
                Some(document.slice(claim.at).to_owned()),
            ),
            None => (None, None, None),
        };
        self.findings.push(Finding {
            verdict: Verdict::Equation,
            level: Level::Error,
            place,
            key,
            value,
            message: broken.what.clone(),
            repairs,
        });
    }

    /// Notes an optimizer that steps in the backward pass of each micro-step.
    fn in_backward(&mut self, configuration: &Configuration, batch: &Solved) {
        let Configuration { document, claims, .. } = configuration;
        let Some(claim) = claims.steps_in_backward.as_ref().filter(|_| batch.accumulation > 1)
        else {
            return;
        };
        let what = format!(
            "it steps in the backward pass of each of the {} micro-steps, and cannot accumulate",
            batch.accumulation
        );
        let mut found = finding(document, Verdict::Equation, Level::Error, claim, what);
        if let Some(plain) = claim.value.strip_suffix(LAYERWISE) {
            found.repairs.push((claim.key.clone(), plain.to_owned()));
            let text = document.slice(claim.at).replacen(LAYERWISE, "", 1);
            self.edits.push(Edit { at: claim.at, text });
        }
        self.findings.push(found);
    }

    /// Notes that the numbers go together.
    fn fine(&mut self, configuration: &Configuration, batch: &Solved, replicas: u64) {
        let Configuration { document, claims, .. } = configuration;
        let claimed = [&claims.whole, &claims.micro_batch, &claims.accumulation];
        let first = claimed.into_iter().find_map(|claim| claim.as_ref());
        let Solved { micro_batch, accumulation, effective } = batch;
        self.findings.push(Finding {
            verdict: Verdict::Ok,
            level: Level::Fine,
            place: first.map(|claim| document.place(claim.at)),
            key: first.map(|claim| claim.key.clone()),
            value: first.map(|claim| document.slice(claim.at).to_owned()),
            message: format!(
                "micro-batch {micro_batch} x accumulation {accumulation} x {} = {effective}",
                counted(replicas, "device")
            ),
            repairs: Vec::new(),
        });
    }
}

/// Returns the whole number that a value in quotes, or with a fraction of nothing, stands for.
fn meant(value: &str) -> Option<u64> {
    let number: f64 = value.trim_matches(['"', '\'']).trim().parse().ok()?;
    (number.fract() == 0.0 && (1.0..=1e15).contains(&number)).then_some(number as u64)
}

fn finding<T>(
    document: &Document,
    verdict: Verdict,
    level: Level,
    claim: &Claim<T>,
    message: String,
) -> Finding {
    Finding {
        verdict,
        level,
        place: Some(document.place(claim.at)),
        key: Some(claim.key.clone()),
        value: Some(document.slice(claim.at).to_owned()),
        message,
        repairs: Vec::new(),
    }
}
