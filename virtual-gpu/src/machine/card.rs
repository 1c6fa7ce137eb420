//! Cards and their MIG instances, as the lines of a scenario describe them.

use super::line::Line;

/// One card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Product name.
    pub name: String,
    /// `GPU-` and 36 characters.
    pub uuid: String,
    /// All memory, as NVML reports it.
    pub total: u64,
    /// What the driver keeps.
    pub reserved: u64,
    /// What allocations are rounded up to.
    pub granularity: u64,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sms: u32,
    /// L2 cache bytes.
    pub l2: u64,
    /// Boost clock.
    pub clock_mhz: u32,
    /// Bits of the memory bus.
    pub bus_bits: u32,
    /// Bytes a second between the card and its memory.
    pub bandwidth: u64,
    /// What each context takes.
    pub context: u64,
    /// What each communicator of NCCL takes for its buffers.
    pub nccl: u64,
    /// The workspace that is assumed of each of cuDNN's convolutions.
    pub convolution: u64,
    /// Compute mode, NVML's numbers: 0 default, 2 prohibited, 3 exclusive process.
    pub compute_mode: u32,
    /// Memory that is the host's (CUDA's attribute 18).
    pub integrated: bool,
    /// Allocations past the card's memory succeed (WSL2).
    pub overcommit: bool,
    /// What one process may hold at most (an MPS client's limit).
    pub client_limit: u64,
    /// MIG mode: `None` where the card has none.
    pub mig: Option<bool>,
    /// Calls that fail on this card, not on its instances: name and code.
    pub failing: Vec<(String, u32)>,
    /// Whether process lists say how much each holds.
    pub process_memory: bool,
}

/// One MIG instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mig {
    /// `MIG-` and 36 characters.
    pub uuid: String,
    /// The shape, as its name ends: `1g.10gb`.
    pub profile: String,
    /// Index on its card; numbers may be missing.
    pub index: u32,
    /// Its memory.
    pub total: u64,
    /// What the driver keeps of it.
    pub reserved: u64,
    /// Its multiprocessors.
    pub sms: u32,
    /// Calls that fail on it: name and code.
    pub failing: Vec<(String, u32)>,
}

impl Gpu {
    /// Reads a `gpu` line, the one of that index.
    pub fn read(line: &mut Line, index: usize) -> Result<Gpu, String> {
        let mode = |text: &str| match text {
            "default" => Some(0),
            "prohibited" => Some(2),
            "exclusive" => Some(3),
            _ => None,
        };
        let mig = |text: &str| match text {
            "on" => Some(Some(true)),
            "off" => Some(Some(false)),
            "none" => Some(None),
            _ => None,
        };
        let capability = |text: &str| {
            let (major, minor) = text.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        let gpu = Gpu {
            name: line.text("name").unwrap_or_else(|| "NVIDIA A100-SXM4-40GB".to_owned()),
            uuid: line.text("uuid").unwrap_or_else(|| default_uuid("GPU", index as u32)),
            total: line.size("total")?.ok_or("total= is missing")?,
            reserved: line.size("reserved")?.unwrap_or(0),
            granularity: line.size("granularity")?.unwrap_or(2 << 20),
            capability: line.parsed("capability", capability)?.unwrap_or((8, 0)),
            sms: line.number("sms")?.unwrap_or(108) as u32,
            l2: line.size("l2")?.unwrap_or(40 << 20),
            clock_mhz: line.number("clock")?.unwrap_or(1410) as u32,
            bus_bits: line.number("bus")?.unwrap_or(5120) as u32,
            bandwidth: line.number("bandwidth")?.unwrap_or(1_555_000_000_000),
            context: line.size("context")?.unwrap_or(0),
            nccl: line.size("nccl")?.unwrap_or(0),
            convolution: line.size("convolution")?.unwrap_or(0),
            compute_mode: line.parsed("mode", mode)?.unwrap_or(0),
            integrated: line.flag("integrated"),
            overcommit: line.flag("overcommit"),
            client_limit: line.size("client_limit")?.unwrap_or(u64::MAX),
            mig: line.parsed("mig", mig)?.unwrap_or(None),
            failing: line.parsed("failing", names_and_codes)?.unwrap_or_default(),
            process_memory: !line.flag("no-process-memory"),
        };
        if gpu.bus_bits == 0 {
            return Err("bus=0".to_owned());
        }
        if gpu.granularity == 0 || gpu.reserved > gpu.total {
            return Err("granularity=0, or reserved= above total=".to_owned());
        }
        Ok(gpu)
    }
}

impl Mig {
    /// Reads a `mig` line; `uuid`, `index` and `sms` are what it has unless it says otherwise.
    pub fn read(line: &mut Line, uuid: String, index: u32, sms: u32) -> Result<Mig, String> {
        let mig = Mig {
            uuid: line.text("uuid").unwrap_or(uuid),
            profile: line.text("profile").unwrap_or_else(|| "1g.5gb".to_owned()),
            index: line.number("index")?.unwrap_or(u64::from(index)) as u32,
            total: line.size("total")?.ok_or("total= is missing")?,
            reserved: line.size("reserved")?.unwrap_or(0),
            sms: line.number("sms")?.unwrap_or(u64::from(sms)) as u32,
            failing: line.parsed("failing", names_and_codes)?.unwrap_or_default(),
        };
        if mig.reserved > mig.total {
            return Err("reserved= is above total=".to_owned());
        }
        Ok(mig)
    }
}

/// Reads `NAME:CODE,NAME:CODE`.
fn names_and_codes(text: &str) -> Option<Vec<(String, u32)>> {
    let pair = |text: &str| {
        let (name, code) = text.split_once(':')?;
        Some((name.to_owned(), code.parse().ok()?))
    };
    text.split(',').map(pair).collect()
}

/// The UUID of a card or instance that has none of its own.
pub fn default_uuid(kind: &str, number: u32) -> String {
    format!("{kind}-{:08x}-0000-4000-8000-000000000000", number + 1)
}
