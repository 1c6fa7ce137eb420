//! Frameworks' configurations: read as their own readers read them, solved as they solve them, and
//! what is emitted is read back to the same batch.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod random;

use oomph::export::decided::Decided;
use oomph::export::emit;
use oomph::export::format::Format;
use oomph::ingest::framework::dialect::Dialect;
use oomph::ingest::framework::document::{Document, Scalar};
use oomph::ingest::framework::judge::{Given, judge};
use oomph::ingest::framework::{Configuration, hjson, read, read_words};
use oomph::plan::equation::{Rule, Said, Solved, solve};
use oomph::plan::finding::Level;
use random::Random;
use serde_json::Value;

/// What DeepSpeed 0.19.8's own methods made of a grid (tests/frameworks/deepspeed.py).
const DEEPSPEED: &str = include_str!("data/deepspeed_batches.txt");
/// What hjson 3.1.0 made of texts (tests/frameworks/hjson_table.py).
const HJSON: &str = include_str!("data/hjson.jsonl");

#[test]
fn the_equation_is_deepspeeds_own_on_26325_cases() {
    let mut lines = DEEPSPEED.lines().filter(|line| !line.starts_with('#'));
    let number = |word: &str| word.parse::<i64>().ok();
    let steps: Vec<Option<i64>> = lines.next().unwrap().split(' ').skip(1).map(number).collect();
    let (mut cases, mut accepted) = (0, 0);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let world: u64 = words[0].parse().unwrap();
        let (whole, micro_batch) = (number(words[1]), number(words[2]));
        assert_eq!(words.len(), steps.len() + 3, "{line}");
        for (outcome, accumulation) in words[3..].iter().zip(&steps) {
            let said = Said { micro_batch, accumulation: *accumulation, whole };
            let ours = solve(Rule::DeepSpeed, said, world).ok();
            let theirs = (*outcome != ".").then(|| {
                let numbers: Vec<u64> = outcome.split(',').map(|n| n.parse().unwrap()).collect();
                Solved { micro_batch: numbers[0], accumulation: numbers[1], effective: numbers[2] }
            });
            assert_eq!(ours, theirs, "{said:?} on {world}");
            cases += 1;
            accepted += usize::from(theirs.is_some());
        }
    }
    assert_eq!((cases, accepted > 2000), (26_325, true), "{accepted} accepted");
}

/// The entries below a path as a JSON value, lists empty.
fn value(document: &Document, prefix: &str) -> Value {
    let mut object = serde_json::Map::new();
    for entry in &document.entries {
        let Some(rest) = entry.path.strip_prefix(prefix) else { continue };
        if rest.contains('.') {
            continue;
        }
        let inner = format!("{}.", entry.path);
        let made = match &entry.scalar {
            Some(Scalar::Integer(number)) => Value::from(*number),
            Some(Scalar::Float(number)) => Value::from(*number),
            Some(Scalar::Bool(on)) => Value::from(*on),
            Some(Scalar::Null) => Value::Null,
            Some(Scalar::Text(text)) => Value::from(text.as_str()),
            None if document.slice(entry.at).starts_with('[') => Value::Array(Vec::new()),
            None => value(document, &inner),
        };
        object.insert(rest.to_owned(), made);
    }
    Value::Object(object)
}

#[test]
fn hjson_is_read_as_the_package_that_deepspeed_calls_reads_it() {
    for line in HJSON.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["text"].as_str().unwrap();
        match hjson::read(text) {
            Ok(document) => assert_eq!(value(&document, ""), case["made"], "{text}"),
            Err(error) => assert_eq!(case["made"], Value::Null, "{text}: {error}"),
        }
    }
}

/// Each format that can be read, whose it is, and how it comes.
const READABLE: [(Format, Dialect, &str); 10] = [
    (Format::HfArgs, Dialect::Hf, "words"),
    (Format::HfJson, Dialect::Hf, "a.json"),
    (Format::Trl, Dialect::Hf, "a.yaml"),
    (Format::DeepSpeed, Dialect::DeepSpeed, "a.json"),
    (Format::Axolotl, Dialect::Axolotl, "a.yaml"),
    (Format::LlamaFactory, Dialect::LlamaFactory, "a.yaml"),
    (Format::Torchtitan03, Dialect::TorchtitanSamples, "words"),
    (Format::TorchtitanTokens, Dialect::TorchtitanTokens, "words"),
    (Format::Megatron, Dialect::Megatron, "words"),
    (Format::Megatron017, Dialect::Megatron, "words"),
];

fn read_back(text: &str, name: &str) -> Configuration {
    if name == "words" {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        read_words(&words, None).unwrap()
    } else {
        read(name, text, None).unwrap()
    }
}

#[test]
fn what_is_emitted_is_read_back_to_the_same_batch() {
    let mut random = Random(1);
    for _ in 0..2_500 {
        let [micro_batch, accumulation, world] =
            [1 + random.below(96), 1 + random.below(64), 1 + random.below(64)];
        let seq_len = 1 << (4 + random.below(10));
        let decided =
            Decided { seq_len: Some(seq_len), ..Decided::batch(micro_batch, accumulation, world) };
        for (format, dialect, name) in READABLE {
            let text = emit(format, &decided);
            let configuration = read_back(&text, name);
            assert_eq!(configuration.claims.dialect, dialect, "{text}");
            let given = Given { seq_len: Some(seq_len), ..Given::default() };
            let judged = judge(&configuration, world, &given);
            let batch = judged.batch.unwrap_or_else(|| panic!("{text}: {judged:?}"));
            let effective = micro_batch * accumulation * world;
            assert_eq!(batch, Solved { micro_batch, accumulation, effective }, "{text}");
            let bad = judged.findings.iter().find(|finding| finding.level != Level::Fine);
            assert_eq!(bad, None, "{text}");
        }
    }
}

#[test]
fn a_world_that_was_not_planned_for_breaks_what_can_break() {
    let text = emit(Format::DeepSpeed, &Decided::batch(6, 11, 4));
    let judged = judge(&read_back(&text, "a.json"), 8, &Given::default());
    assert!(judged.findings.iter().any(|finding| finding.level == Level::Error), "{judged:?}");
    let text = emit(Format::HfJson, &Decided::batch(6, 11, 4));
    let given = Given { target: Some(264), ..Given::default() };
    let judged = judge(&read_back(&text, "a.json"), 8, &given);
    assert!(judged.findings.iter().any(|finding| finding.level == Level::Error), "{judged:?}");
}
