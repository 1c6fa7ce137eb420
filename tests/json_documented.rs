//! docs/json.md names every key that the answers have, and every value of `bound_by`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod training;

use answers::{json, oomph};
use oomph::plan::solver::BoundBy;
use oomph::report::json::bound_by;
use serde_json::Value;
use training::User;

const PAGE: &str = include_str!("../docs/json.md");

/// What the page says under the heading of a schema.
fn section(schema: &str) -> &'static str {
    let mut sections = PAGE.split("\n## ");
    let of = |section: &&str| section.lines().next().unwrap().contains(&format!("`{schema}`"));
    sections.find(of).unwrap_or_else(|| panic!("no section of {schema}"))
}

fn is_documented(answer: &Value) {
    let schema = answer["schema"].as_str().unwrap();
    let section = section(schema);
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert!(keys.len() > 2, "{answer:#}");
    for key in keys {
        assert!(key == "schema" || section.contains(&format!("`{key}`")), "{schema}: {key}");
    }
}

#[test]
fn every_key_of_every_answer_is_on_the_page() {
    for line in [
        "estimate gpt2 --micro-batch auto --gpu sim:t4",
        "plan gpt2 --effective-batch 96 --gpu sim:rtx-3060-12gb,sim:rtx-3090",
        "probe gpt2 --gpu sim:t4",
        "advise gpt2 --micro-batch 16 --gpu sim:t4",
        "check gpt2 --micro-batch 4 --gpu sim:t4",
        "gpus --gpu sim:t4",
        "wait --min-free 1GiB --gpu sim:t4",
        "profiles list",
        "estimate nope",
    ] {
        is_documented(&json(&oomph(&format!("{line} --json"))));
    }
}

#[test]
fn runs_and_trials_are_on_the_page_and_their_limits_are_named_by_what_they_are() {
    let user = User::new();
    let run = user.oomph("run --gpu sim:t4 --json", "base=500").output().unwrap();
    is_documented(&training::json(&run));
    let bound = |options: &str| {
        let words = "base=500 sample=1 micro_batch={micro_batch}";
        let line = format!("trial --gpu sim:h200 --json {options}");
        let answer = training::json(&user.oomph(&line, words).output().unwrap());
        is_documented(&answer);
        is_documented(&answer["plan"]);
        answer["plan"]["bound_by"].as_str().unwrap().to_owned()
    };
    let bounds = [bound("--micro-batch-max 8"), bound(""), bound("--effective-batch 8")];
    assert_eq!(bounds, ["micro_batch_max", "search_limit", "effective_batch"]);
}

#[test]
fn every_value_of_bound_by_is_on_the_page() {
    use BoundBy::{Accumulation, Divisibility, EffectiveBatch, Memory, MicroBatch, Schedule};
    let plans = [Memory, EffectiveBatch, Divisibility, MicroBatch, Accumulation, Schedule];
    let values = plans.map(bound_by).into_iter();
    for value in values.chain(["command", "micro_batch_max", "search_limit"]) {
        assert!(section("oomph.plan/1").contains(&format!("\n| `{value}` | ")), "{value}");
    }
}
