//! Peaks on GPUs other than an A100, beside those of real PyTorch on simulated ones.
//!
//! `data/other_cards.jsonl`: cases drawn by chance (`oracle/draw.py`), asked of PyTorch on our own simulated GPU as
//! `oracle/on_virtual_gpu.py` lays it out. Of 167 three are left out: two 16-bit cases of an H100 with torch 2.15, where
//! PyTorch takes cuDNN's attention, which is not modelled (at most 0.3 % of allocated, 2 % of reserved), and a BART with a
//! padded mask, where the oracle reads the decoder's mask of ones as padding (0.1 %).

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod oracle_case;

use oomph::ingest::config_json;
use oomph::memory::footprint::Footprint;
use oomph::model::config::Task;
use oomph::step::setup::Version;
use serde_json::Value;

fn version(case: &Value, key: &str) -> Version {
    let (major, minor) = case[key].as_str().unwrap().split_once('.').unwrap();
    Version::new(major.parse().unwrap(), minor.parse().unwrap())
}

#[test]
fn other_cards_need_what_pytorch_needs_there() {
    let mut compared = 0;
    for line in include_str!("data/other_cards.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let task = Task::ALL.into_iter().find(|task| task.name() == case["task"]).unwrap();
        let model = config_json::from_map(case["config"].as_object().unwrap()).unwrap().config;
        let model = model.with_task(task).unwrap();
        let setup =
            oracle_case::setup(&case, version(&case, "torch"), version(&case, "transformers"));
        let footprint = Footprint::of(&oracle_case::trace(&case, &model, &setup)).unwrap();
        let peaks = [footprint.peak_allocated.get(), footprint.peak_reserved.get()];
        for (ours, key) in peaks.into_iter().zip(["peak_allocated", "peak_reserved"]) {
            let theirs = case["result"][key].as_u64().unwrap();
            let error = (ours as f64 / theirs as f64 - 1.0).abs();
            assert!(error < 0.000_05, "{} on {}: {key} {ours}, {theirs}", case["id"], case["gpu"]);
        }
        compared += 1;
    }
    assert_eq!(compared, 164);
}
