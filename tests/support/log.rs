//! The call log: one line a call, `NUMBER PID NAME key=value ... = RESULT`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One call that a process made of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Counts calls of all processes, from one; a number is missing where a process was killed.
    pub number: u64,
    /// Who called.
    pub pid: u32,
    /// The exported name.
    pub name: String,
    /// Arguments and answers worth noting, as text.
    pub arguments: BTreeMap<String, String>,
    /// Whether a fault of the scenario answered.
    pub fault: bool,
    /// The code that was returned, or `hang`, `kill`, `segfault`.
    pub result: String,
}

impl Call {
    /// Returns a noted number, decimal or 0x.
    pub fn number_of(&self, key: &str) -> Option<u64> {
        let text = self.arguments.get(key)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// Whether the call returned success.
    pub fn succeeded(&self) -> bool {
        self.result == "0"
    }

    fn parse(line: &str) -> Option<Call> {
        let (call, result) = line.rsplit_once(" = ")?;
        let mut words = call.split(' ');
        let number = words.next()?.parse().ok()?;
        let pid = words.next()?.parse().ok()?;
        let name = words.next()?.to_owned();
        let words: Vec<&str> = words.collect();
        let fault = words == ["fault"];
        let pairs = words.iter().filter_map(|word| word.split_once('='));
        let arguments = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Some(Call { number, pid, name, arguments, fault, result: result.to_owned() })
    }
}

/// Reads a log; one that is not there yet is empty.
pub fn read(path: &Path) -> Vec<Call> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| Call::parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// What a process took, so that it can be told from what others took.
type Taken = (u32, &'static str, u64);

/// Returns what was taken and never given back, a line each.
///
/// Memory that only the end of its context or process gave back counts as left.
pub fn left(calls: &[Call]) -> Vec<String> {
    let mut taken: BTreeMap<Taken, i64> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.succeeded()) {
        if call.name == "cuMemUnmap" {
            let start = call.number_of("address").unwrap_or(0);
            let end = start + call.number_of("bytes").unwrap_or(0);
            taken.retain(|(pid, kind, address), _| {
                (*pid, *kind) != (call.pid, "mapping") || !(start..end).contains(address)
            });
        }
        if let Some((kind, key, change)) = change(call) {
            let what = (call.pid, kind, call.number_of(key).unwrap_or(0));
            let count = taken.entry(what).or_default();
            *count = if change == i64::MIN { 0 } else { *count + change };
        }
    }
    taken.retain(|_, count| *count != 0);
    let say =
        |((pid, kind, id), count): (Taken, i64)| format!("pid {pid}: {kind} {id:#x} x{count}");
    taken.into_iter().map(say).collect()
}

/// What a call takes or gives back, what names it in the log, and how many; a reset gives all.
fn change(call: &Call) -> Option<(&'static str, &'static str, i64)> {
    Some(match call.name.trim_end_matches("_v2") {
        "cuMemAlloc" => ("allocation", "address", 1),
        "cuMemFree" => ("allocation", "address", -1),
        "cuDevicePrimaryCtxRetain" => ("primary context of device", "device", 1),
        "cuDevicePrimaryCtxRelease" => ("primary context of device", "device", -1),
        "cuDevicePrimaryCtxReset" => ("primary context of device", "device", i64::MIN),
        "cuCtxCreate" | "cuCtxCreate_v3" | "cuCtxCreate_v4" => ("context", "context", 1),
        "cuCtxDestroy" => ("context", "context", -1),
        "cuMemAddressReserve" => ("reserved addresses", "address", 1),
        "cuMemAddressFree" => ("reserved addresses", "address", -1),
        "cuMemCreate" => ("memory handle", "handle", 1),
        "cuMemRelease" => ("memory handle", "handle", -1),
        "cuMemMap" => ("mapping", "address", 1),
        "nvmlInit" | "nvmlInitWithFlags" => ("NVML", "", 1),
        "nvmlShutdown" => ("NVML", "", -1),
        _ => return None,
    })
}

/// Returns the most that `cuMemAlloc` and `cuMemCreate` took at once, over all processes.
///
/// Memory that is mapped counts until its handle is released.
pub fn peak(calls: &[Call]) -> u64 {
    let mut live: BTreeMap<(u32, &str, u64), u64> = BTreeMap::new();
    let mut peak = 0;
    for call in calls.iter().filter(|call| call.succeeded()) {
        let Some((kind @ ("allocation" | "memory handle"), key, change)) = change(call) else {
            continue;
        };
        let what = (call.pid, kind, call.number_of(key).unwrap_or(0));
        if change > 0 {
            let bytes = call.number_of("taken").or(call.number_of("bytes")).unwrap_or(0);
            live.insert(what, bytes);
        } else {
            live.remove(&what);
        }
        peak = peak.max(live.values().sum());
    }
    peak
}
