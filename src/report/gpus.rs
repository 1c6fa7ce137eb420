//! What each GPU has free and who holds the rest, as a table and as JSON (`oomph.gpus/1`).

use std::fmt::Write;

use serde_json::{Value, json};

use crate::probe::{ComputeMode, DeviceMemory, Gpu, GpuList, GpuProcess, GpuRow, MigInstance};
use crate::report::wait::visible_devices;
use crate::units::Bytes;

/// The table's width: what a terminal has at least.
const WIDTH: usize = 80;
/// Processes shown below a GPU; JSON has all.
const MOST_PROCESSES: usize = 8;
/// Differences between NVML's total and its processes' sum that are not worth a line: contexts
/// that are just going, rounding to pages.
pub const UNATTRIBUTED_NOISE: Bytes = Bytes::mib(64);

/// Returns the name of a compute mode as JSON and people see it.
pub fn compute_mode(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Default => "default",
        ComputeMode::ExclusiveProcess => "exclusive_process",
        ComputeMode::Prohibited => "prohibited",
    }
}

/// Returns the bytes in use that no listed process accounts for; `None` where that cannot be told.
///
/// In a container these are other containers' or the host's processes, whose pids are hidden.
pub fn unattributed(gpu: &Gpu) -> Option<Bytes> {
    let used = gpu.memory.as_ref().ok()?.used;
    let listed: Option<Vec<Bytes>> = gpu.processes.iter().map(|process| process.used).collect();
    Some(used.saturating_sub(listed?.into_iter().sum()))
}

/// Returns the table for people, at most 80 columns wide.
pub fn table(list: &GpuList) -> String {
    let mut text = String::new();
    let header = ["GPU", "Name", "Total", "Reserved", "Used", "Free"].map(str::to_owned);
    line(&mut text, &header);
    for row in &list.rows {
        match &row.gpu {
            Ok(gpu) => answered(&mut text, row.index, gpu),
            Err(reason) => {
                let label = format!("{:<4} no answer: ", row.index);
                wrapped(&mut text, &label, reason);
            }
        }
    }
    footer(&mut text, list);
    text
}

fn line(text: &mut String, cells: &[String; 6]) {
    let [index, name, numbers @ ..] = cells;
    let name: String = if name.chars().count() > 30 {
        name.chars().take(29).chain(['…']).collect()
    } else {
        name.clone()
    };
    let mut row = format!("{index:<4} {name:<30}");
    for number in numbers {
        let _ = write!(row, " {number:>10}");
    }
    let _ = writeln!(text, "{}", row.trim_end());
}

fn memory_cells(memory: &DeviceMemory) -> [String; 4] {
    let reserved = memory.reserved.map_or("-".to_owned(), |bytes| bytes.to_string());
    [memory.total.to_string(), reserved, memory.used.to_string(), memory.free.to_string()]
}

fn answered(text: &mut String, index: u32, gpu: &Gpu) {
    let cells = match &gpu.memory {
        Ok(memory) => memory_cells(memory),
        Err(_) => [(); 4].map(|()| "?".to_owned()),
    };
    let [total, reserved, used, free] = cells;
    line(text, &[index.to_string(), gpu.name.clone(), total, reserved, used, free]);
    let _ = writeln!(text, "     {}{}", gpu.uuid, traits(gpu));
    if let Err(reason) = &gpu.memory {
        wrapped(text, "     memory unknown: ", reason);
    }
    for instance in &gpu.mig_instances {
        mig_line(text, instance);
    }
    let mut processes: Vec<&GpuProcess> = gpu.processes.iter().collect();
    processes.sort_by_key(|process| (std::cmp::Reverse(process.used), process.pid));
    for process in processes.iter().take(MOST_PROCESSES) {
        let used = process.used.map_or("?".to_owned(), |used| used.to_string());
        let name = process.name.as_deref().unwrap_or("(name not readable)");
        held_line(text, &format!("pid {}  {name}", process.pid), &used);
    }
    if let Some(more) = processes.len().checked_sub(MOST_PROCESSES).filter(|more| *more > 0) {
        let _ = writeln!(text, "       and {more} more, see --json");
    }
    if let Some(rest) = unattributed(gpu).filter(|rest| *rest > UNATTRIBUTED_NOISE) {
        held_line(text, "held by no process that is visible here", &rest.to_string());
    }
}

/// What is unusual about a GPU.
fn traits(gpu: &Gpu) -> String {
    let mut traits = Vec::new();
    if gpu.simulated {
        traits.push("simulated");
    }
    match gpu.compute_mode {
        Some(ComputeMode::ExclusiveProcess) => traits.push("one process at a time"),
        Some(ComputeMode::Prohibited) => traits.push("compute prohibited"),
        Some(ComputeMode::Default) | None => {}
    }
    if gpu.mig_enabled == Some(true) {
        traits.push("MIG on");
    }
    traits.iter().map(|t| format!(" · {t}")).collect()
}

fn mig_line(text: &mut String, instance: &MigInstance) {
    let uuid = if instance.uuid.is_empty() { "(no UUID)" } else { &instance.uuid };
    let _ = writeln!(text, "     MIG {} {uuid}", instance.index);
    match &instance.memory {
        Ok(memory) => {
            let [total, reserved, used, free] = memory_cells(memory);
            line(text, &[String::new(), String::new(), total, reserved, used, free]);
        }
        Err(reason) => wrapped(text, "       memory unknown: ", reason),
    }
}

/// A holder, with its bytes below the `Used` column.
fn held_line(text: &mut String, who: &str, used: &str) {
    let who: String = who.chars().take(46).collect();
    let _ = writeln!(text, "       {who:<49} {used:>11}");
}

/// Writes a text under a label, broken at words so that no line is wider than the table.
fn wrapped(text: &mut String, label: &str, words: &str) {
    let indent = label.chars().count().min(7);
    let mut width = label.chars().count();
    text.push_str(label);
    let mut first = true;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if !first && width + 1 + length > WIDTH {
            let _ = write!(text, "\n{:indent$}", "");
            width = indent;
            first = true;
        }
        if !first {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
        first = false;
    }
    text.push('\n');
}

fn footer(text: &mut String, list: &GpuList) {
    let answered = || list.rows.iter().filter_map(|row| row.gpu.as_ref().ok());
    if answered().any(|gpu| gpu.simulated) {
        text.push_str("\nSimulated: these GPUs are not in this machine.\n");
        return;
    }
    let mut known = Vec::new();
    if let Some(driver) = &list.driver_version {
        known.push(format!("driver {driver}"));
    }
    if let Some((major, minor)) = list.cuda_version {
        known.push(format!("CUDA up to {major}.{minor}"));
    }
    if !known.is_empty() {
        let _ = writeln!(text, "\n{}", known.join(", "));
    }
}

/// Returns the JSON object (`oomph.gpus/1`); every key is always there.
pub fn json(list: &GpuList) -> String {
    format!("{:#}\n", value(list))
}

/// Returns the same object as one line, with the time of the reading: a line of `--watch --json`.
pub fn json_line(list: &GpuList, unix_seconds: u64) -> String {
    let mut object = value(list);
    append(&mut object, json!({ "unix_seconds": unix_seconds }));
    format!("{object}\n")
}

fn value(list: &GpuList) -> Value {
    json!({
        "schema": "oomph.gpus/1",
        "driver_version": list.driver_version,
        "cuda_version": list.cuda_version.map(|(major, minor)| format!("{major}.{minor}")),
        "gpus": list.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

/// Returns the JSON object of `--select` (`oomph.gpus-selection/1`), in the order picked.
pub fn selection_json(picked: &[&GpuRow]) -> String {
    let object = json!({
        "schema": "oomph.gpus-selection/1",
        "cuda_visible_devices": visible_devices(picked.iter().copied()),
        "gpus": picked.iter().copied().map(row).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn row(row: &GpuRow) -> Value {
    let gpu = row.gpu.as_ref().ok();
    let mut object = json!({
        "index": row.index,
        "error": row.gpu.as_ref().err(),
        "name": gpu.map(|gpu| &gpu.name),
        "uuid": gpu.map(|gpu| &gpu.uuid),
        "simulated": gpu.is_some_and(|gpu| gpu.simulated),
    });
    append(&mut object, memory(gpu.map(|gpu| &gpu.memory)));
    append(
        &mut object,
        json!({
            "compute_capability": gpu
                .and_then(|gpu| gpu.compute_capability)
                .map(|(major, minor)| format!("{major}.{minor}")),
            "sm_count": gpu.and_then(|gpu| gpu.sm_count),
            "compute_mode": gpu.and_then(|gpu| gpu.compute_mode).map(compute_mode),
            "mig_enabled": gpu.and_then(|gpu| gpu.mig_enabled),
            "mig_instances": gpu.map_or(&[][..], |gpu| &gpu.mig_instances)
                .iter()
                .map(mig_json)
                .collect::<Vec<_>>(),
            "processes": gpu.map_or(&[][..], |gpu| &gpu.processes)
                .iter()
                .map(|process| json!({
                    "pid": process.pid,
                    "name": process.name,
                    "used_bytes": process.used,
                }))
                .collect::<Vec<_>>(),
            "unattributed_bytes": gpu.and_then(unattributed),
        }),
    );
    object
}

fn mig_json(instance: &MigInstance) -> Value {
    let mut object = json!({ "index": instance.index, "uuid": instance.uuid });
    append(&mut object, memory(Some(&instance.memory)));
    object
}

fn memory(memory: Option<&Result<DeviceMemory, String>>) -> Value {
    let known = memory.and_then(|memory| memory.as_ref().ok());
    json!({
        "total_bytes": known.map(|memory| memory.total),
        "reserved_bytes": known.and_then(|memory| memory.reserved),
        "used_bytes": known.map(|memory| memory.used),
        "free_bytes": known.map(|memory| memory.free),
        "memory_error": memory.and_then(|memory| memory.as_ref().err()),
    })
}

fn append(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> GpuList {
        let memory = DeviceMemory {
            total: Bytes::mib(81_559),
            reserved: Some(Bytes::mib(559)),
            used: Bytes::gib(12),
            free: Bytes::gib(67),
        };
        let process =
            |pid, name: Option<&str>, used| GpuProcess { pid, name: name.map(str::to_owned), used };
        let gpu = Gpu {
            name: "NVIDIA H100 80GB HBM3 with a name that goes on and on".to_owned(),
            uuid: "GPU-00112233-4455-6677-8899-aabbccddeeff".to_owned(),
            simulated: false,
            memory: Ok(memory),
            compute_capability: Some((9, 0)),
            sm_count: Some(132),
            compute_mode: Some(ComputeMode::ExclusiveProcess),
            mig_enabled: Some(false),
            mig_instances: Vec::new(),
            processes: vec![
                process(4242, Some("python"), Some(Bytes::gib(3))),
                process(77, None, Some(Bytes::gib(8))),
            ],
        };
        let lost = "NVML 15 (GPU_IS_LOST): device fell off the bus or has otherwise become \
                    inacessible; see `dmesg | grep -i xid`, then reset or reboot";
        GpuList {
            driver_version: Some("550.54.14".to_owned()),
            cuda_version: Some((12, 4)),
            rows: vec![
                GpuRow { index: 0, gpu: Ok(gpu) },
                GpuRow { index: 1, gpu: Err(lost.to_owned()) },
            ],
        }
    }

    #[test]
    fn the_table_fits_80_columns_and_names_who_holds_what() {
        let text = table(&list());
        for row in text.lines() {
            assert!(row.chars().count() <= 80, "{row}");
        }
        let python = text.lines().position(|l| l.contains("python")).unwrap();
        let unnamed = text.lines().position(|l| l.contains("pid 77")).unwrap();
        assert!(unnamed < python, "the largest holder comes first\n{text}");
        assert!(text.contains("no answer: NVML 15"), "{text}");
        assert!(text.contains("held by no process that is visible here"), "{text}");
        assert!(text.contains("one process at a time"), "{text}");
    }

    #[test]
    fn json_has_the_same_keys_for_a_gpu_that_did_not_answer() {
        let value: Value = serde_json::from_str(&json(&list())).unwrap();
        let keys =
            |at: usize| -> Vec<&String> { value["gpus"][at].as_object().unwrap().keys().collect() };
        assert_eq!(keys(0), keys(1));
        assert_eq!(value["gpus"][0]["unattributed_bytes"], 1_u64 << 30);
        assert_eq!(value["gpus"][0]["free_bytes"], 67_u64 << 30);
        assert!(value["gpus"][1]["error"].as_str().unwrap().contains("GPU_IS_LOST"));
        assert_eq!(value["gpus"][1]["free_bytes"], Value::Null);
    }

    #[test]
    fn a_process_of_unknown_size_leaves_the_rest_unknown() {
        let mut list = list();
        let gpu = list.rows[0].gpu.as_mut().unwrap();
        gpu.processes[0].used = None;
        assert_eq!(unattributed(gpu), None);
    }
}
