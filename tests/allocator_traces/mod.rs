//! Reads `tests/data/allocator/*.trace`: what real PyTorch asked of its caching allocator, and what
//! the allocator answered. tests/oracle/allocator_traces.py makes them and describes the format.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oomph::memory::trace::{Block, BlockId, Category, Event, Phase, Trace};
use oomph::units::Bytes;

/// One recorded case.
pub struct Recorded {
    pub name: String,
    pub trace: Trace,
    pub peak_allocated: Bytes,
    pub peak_reserved: Bytes,
    pub device_allocs: u64,
    pub peak_phase: Phase,
    pub runs: Vec<RecordedRun>,
    /// With expandable segments: the device's memory, and the run.
    pub expandable: Vec<(Bytes, RecordedRun)>,
}

/// What real PyTorch did on a device of a certain capacity.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordedRun {
    pub capacity: Bytes,
    pub ran: bool,
    pub allocations: u64,
    pub peak_allocated: Bytes,
    pub peak_reserved: Bytes,
    pub retries: u64,
    pub device_allocs: u64,
    pub device_frees: u64,
}

/// Reads every recorded case, in the order of their names.
pub fn all() -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/allocator");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "trace"))
        .collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Recorded {
    let text = std::fs::read_to_string(file).unwrap();
    let (head, events) = text.split_once("\nevents\n").unwrap();
    let rows: Vec<Vec<&str>> = head.lines().map(|line| line.split(' ').collect()).collect();
    let unlimited = rows.iter().find(|row| row[0] == "unlimited").unwrap();
    Recorded {
        name: file.file_stem().unwrap().to_str().unwrap().to_owned(),
        trace: trace(&unpacked(events)),
        peak_allocated: bytes(unlimited[1]),
        peak_reserved: bytes(unlimited[2]),
        device_allocs: unlimited[3].parse().unwrap(),
        peak_phase: phase(unlimited[4]).unwrap(),
        runs: rows.iter().filter(|row| row[0] == "run").map(|row| recorded_run(row)).collect(),
        expandable: rows
            .iter()
            .filter(|row| row[0] == "expandable")
            .map(|row| (bytes(row[1]), recorded_run(&row[1..])))
            .collect(),
    }
}

fn recorded_run(row: &[&str]) -> RecordedRun {
    RecordedRun {
        capacity: bytes(row[1]),
        ran: row[2] == "ran",
        allocations: row[3].parse().unwrap(),
        peak_allocated: bytes(row[4]),
        peak_reserved: bytes(row[5]),
        retries: row[6].parse().unwrap(),
        device_allocs: row[7].parse().unwrap(),
        device_frees: row[8].parse().unwrap(),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::new(text.parse().unwrap())
}

fn unpacked(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for token in text.split_whitespace() {
        match token.strip_prefix('@').and_then(|copy| copy.split_once(':')) {
            Some((back, count)) => {
                let start = tokens.len() - back.parse::<usize>().unwrap();
                for place in start..start + count.parse::<usize>().unwrap() {
                    tokens.push(tokens[place]);
                }
            }
            None => tokens.push(token),
        }
    }
    tokens
}

fn phase(name: &str) -> Option<Phase> {
    [Phase::Load, Phase::Batch, Phase::Forward, Phase::Backward, Phase::Optimizer, Phase::ZeroGrad]
        .into_iter()
        .find(|phase| phase.name() == name)
}

/// Builds a trace; what a block is for is not recorded, so its phase decides the category.
fn trace(tokens: &[&str]) -> Trace {
    let categories = BTreeMap::from([
        (Phase::Load, Category::Parameters),
        (Phase::Batch, Category::Inputs),
        (Phase::Optimizer, Category::OptimizerTemp),
    ]);
    let mut trace = Trace { modules: vec![String::new()], ..Trace::default() };
    let mut now = Phase::Load;
    for token in tokens {
        if let Some(bytes) = token.strip_prefix('+') {
            trace.events.push(Event::Alloc(BlockId(trace.blocks.len() as u32)));
            trace.blocks.push(Block {
                bytes: Bytes::new(bytes.parse().unwrap()),
                category: categories.get(&now).copied().unwrap_or(Category::Temporaries),
                phase: now,
                module: 0,
            });
        } else if let Some(back) = token.strip_prefix('-') {
            let id = trace.blocks.len() as u32 - back.parse::<u32>().unwrap();
            trace.events.push(Event::Free(BlockId(id)));
        } else {
            now = phase(token).unwrap_or_else(|| panic!("unknown token {token}"));
            trace.phases.push((trace.events.len(), now));
        }
    }
    trace
}
