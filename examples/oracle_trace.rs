//! Prints our trace of one oracle case, in the oracle's own format, for `tests/oracle/compare.py`.
//!
//!     cargo run --release --example oracle_trace -- '{"config": {...}, "micro_batch": 2}' [2.15] [5.23] [h100-80gb]

#![expect(clippy::unwrap_used, reason = "a tool for developers, who read the panic")]
#[path = "../tests/oracle_case/mod.rs"]
mod oracle_case;

use oomph::ingest::config_json;
use oomph::memory::trace::{Event, Phase};
use oomph::model::config::Task;
use oomph::step::setup::Version;
use serde_json::Value;

fn version(text: &str) -> Version {
    let (a, b) = text.split_once('.').unwrap();
    Version::new(a.parse().unwrap(), b.parse().unwrap())
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut case: Value = serde_json::from_str(&args[1]).unwrap();
    if let Some(gpu) = args.get(4) {
        case["gpu"] = gpu.as_str().into();
    }
    let torch = version(args.get(2).map_or("2.15", |s| s));
    let transformers = version(args.get(3).map_or("5.23", |s| s));
    let setup = oracle_case::setup(&case, torch, transformers);
    let model = config_json::from_map(case["config"].as_object().unwrap()).unwrap().config;
    let named = Task::ALL.into_iter().find(|task| task.name() == case["task"]);
    let model = model.with_task(named.unwrap()).unwrap();
    let start = std::time::Instant::now();
    let trace = oracle_case::trace(&case, &model, &setup);
    eprintln!("{} events in {:?}", trace.events.len(), start.elapsed());
    let mut freed = vec![None; trace.blocks.len()];
    let mut died = vec![None; trace.blocks.len()];
    let (mut born, mut at) = (0, 0);
    for (i, event) in trace.events.iter().enumerate() {
        while at + 1 < trace.phases.len() && trace.phases[at + 1].0 <= i {
            at += 1;
        }
        match event {
            Event::Alloc(_) => born += 1,
            Event::Free(b) => {
                freed[b.0 as usize] = Some(born);
                died[b.0 as usize] = Some(trace.phases[at].1.name());
            }
        }
    }
    let short = |p: Phase| match p {
        Phase::Optimizer => "optim",
        other => other.name(),
    };
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (i, block) in trace.blocks.iter().enumerate() {
        let row = serde_json::json!({
            "i": i, "bytes": block.bytes.get(), "born": short(block.phase), "died": died[i],
            "freed_before": freed[i], "module": trace.modules[block.module as usize],
            "category": block.category.name(),
        });
        writeln!(out, "{row}").unwrap();
    }
}
