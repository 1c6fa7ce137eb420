//! How a wait for GPU memory stands and ended, as text and as JSON (`oomph.wait/1`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::device::holder::Holder;
use crate::probe::free::{MinFree, Standing, standing};
use crate::probe::{Gpu, GpuProcess, GpuRow};
use crate::report::gpus::{UNATTRIBUTED_NOISE, unattributed};
use crate::units::counted;

/// Characters of a command line that a line of text has room for.
const COMMAND_WIDTH: usize = 60;

/// A wait that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Waited {
    /// The GPUs that were watched, as last read.
    pub rows: Vec<GpuRow>,
    /// What must be free on each.
    pub min: MinFree,
    /// How many of them must have it.
    pub need: usize,
    /// The positions of those to use; `None` when time was up first.
    pub picked: Option<Vec<usize>>,
    /// How long it took.
    pub waited: Duration,
    /// How often the GPUs were read.
    pub readings: u64,
    /// What is known of the processes that hold memory, by pid; looked up when time was up.
    pub holders: BTreeMap<u32, Holder>,
}

/// Returns a time as people write it: `45s`, `3m 20s`, `2h 05m`, `3d 4h`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Says in a few words how one GPU stands.
pub fn stands(row: &GpuRow, min: MinFree) -> String {
    let index = row.index;
    match standing(row, min) {
        Standing::Enough { free } => format!("GPU {index} has {free} free"),
        Standing::Short { free, wanted } => format!("GPU {index} has {free} free of {wanted}"),
        Standing::Taken => format!("GPU {index} is another process's alone"),
        Standing::TooSmall { usable, wanted } => {
            format!("GPU {index} has {usable} in all, less than {wanted}")
        }
        Standing::Unusable(why) => format!("GPU {index} cannot be used: {why}"),
    }
}

/// Returns the value of CUDA_VISIBLE_DEVICES that names these rows by UUID.
pub fn visible_devices<'a>(rows: impl Iterator<Item = &'a GpuRow>) -> String {
    let uuids: Vec<&str> =
        rows.filter_map(|row| row.gpu.as_ref().ok()).map(|gpu| gpu.uuid.as_str()).collect();
    uuids.join(",")
}

impl Waited {
    fn enough(&self) -> usize {
        let enough = |row: &&GpuRow| matches!(standing(row, self.min), Standing::Enough { .. });
        self.rows.iter().filter(enough).count()
    }

    fn visible(&self) -> Option<String> {
        let picked = self.picked.as_ref()?;
        let rows = || picked.iter().map(|at| &self.rows[*at]);
        let real = rows().all(|row| row.gpu.as_ref().is_ok_and(|gpu| !gpu.simulated));
        real.then(|| visible_devices(rows()))
    }
}

/// Returns the text for people.
pub fn render(waited: &Waited) -> String {
    let mut text = String::new();
    let took = time(waited.waited);
    if let Some(picked) = &waited.picked {
        let _ = writeln!(text, "Free after {took}:");
        for row in picked.iter().map(|at| &waited.rows[*at]) {
            let note = match &row.gpu {
                Ok(gpu) if gpu.simulated => format!("{}, simulated", gpu.name),
                Ok(gpu) => format!("{}, {}", gpu.name, gpu.uuid),
                Err(_) => String::new(),
            };
            let _ = writeln!(text, "  {}  ({note})", stands(row, waited.min));
        }
        return text;
    }
    let (enough, need) = (waited.enough(), waited.need);
    let gpus = counted(need as u64, "GPU");
    let _ = writeln!(text, "Time was up after {took}: {enough} of {gpus} had enough free");
    for row in &waited.rows {
        let _ = writeln!(text, "  {}", stands(row, waited.min));
        if let Ok(gpu) = &row.gpu {
            held(&mut text, gpu, &waited.holders);
        }
    }
    text
}

/// Lists who holds a GPU's memory, the largest first, and what nobody accounts for.
fn held(text: &mut String, gpu: &Gpu, holders: &BTreeMap<u32, Holder>) {
    let mut processes: Vec<&GpuProcess> = gpu.processes.iter().collect();
    processes.sort_by_key(|process| (std::cmp::Reverse(process.used), process.pid));
    for process in processes {
        let used = process.used.map_or("?".to_owned(), |used| used.to_string());
        let known = holders.get(&process.pid).cloned().unwrap_or_default();
        let user = known.user.as_deref().unwrap_or("user unknown");
        let age = known.age.map_or("age unknown".to_owned(), |age| format!("for {}", time(age)));
        let name = process.name.as_deref().unwrap_or("command not readable");
        let command: String =
            known.command.as_deref().unwrap_or(name).chars().take(COMMAND_WIDTH).collect();
        let container = known.container.map_or(String::new(), |id| format!("container {id}  "));
        let pid = process.pid;
        let _ = writeln!(text, "    {used:>10}  pid {pid}  {user}  {age}  {container}{command}");
    }
    if let Some(rest) = unattributed(gpu).filter(|rest| *rest > UNATTRIBUTED_NOISE) {
        let rest = rest.to_string();
        let _ = writeln!(text, "    {rest:>10}  held outside this PID namespace");
    }
}

/// Returns the JSON object (`oomph.wait/1`); every key is always there.
pub fn json(waited: &Waited) -> String {
    let picked = |at: usize| waited.picked.as_ref().is_some_and(|picked| picked.contains(&at));
    let object = json!({
        "schema": "oomph.wait/1",
        "verdict": if waited.picked.is_some() { "free" } else { "timed_out" },
        "waited_seconds": waited.waited.as_secs_f64(),
        "readings": waited.readings,
        "gpus_wanted": waited.need,
        "cuda_visible_devices": waited.visible(),
        "gpus": waited
            .rows
            .iter()
            .enumerate()
            .map(|(at, row)| gpu(row, picked(at), waited))
            .collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn gpu(row: &GpuRow, picked: bool, waited: &Waited) -> Value {
    let gpu = row.gpu.as_ref().ok();
    let memory = gpu.and_then(|gpu| gpu.memory.as_ref().ok());
    let standing = standing(row, waited.min);
    json!({
        "index": row.index,
        "uuid": gpu.map(|gpu| &gpu.uuid),
        "name": gpu.map(|gpu| &gpu.name),
        "simulated": gpu.is_some_and(|gpu| gpu.simulated),
        "picked": picked,
        "enough": matches!(standing, Standing::Enough { .. }),
        "says": stands(row, waited.min),
        "free_bytes": memory.map(|memory| memory.free),
        "wanted_bytes": memory.map(|memory| waited.min.of(memory.total)),
        "holders": gpu
            .map_or(&[][..], |gpu| &gpu.processes)
            .iter()
            .map(|process| holder(process, waited.holders.get(&process.pid)))
            .collect::<Vec<_>>(),
        "unattributed_bytes": gpu.and_then(unattributed),
    })
}

fn holder(process: &GpuProcess, known: Option<&Holder>) -> Value {
    json!({
        "pid": process.pid,
        "name": process.name,
        "used_bytes": process.used,
        "user": known.and_then(|known| known.user.as_ref()),
        "command": known.and_then(|known| known.command.as_ref()),
        "container": known.and_then(|known| known.container.as_ref()),
        "age_seconds": known.and_then(|known| known.age).map(|age| age.as_secs()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_at_every_size() {
        let said = |seconds| time(Duration::from_secs(seconds));
        assert_eq!(
            [said(0), said(59), said(200), said(7500), said(273_600)],
            ["0s", "59s", "3m 20s", "2h 05m", "3d 4h"]
        );
    }
}
