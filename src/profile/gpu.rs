//! A GPU as memory planning sees it.

use std::path::Path;

use serde::Deserialize;

use crate::profile::embedded;
use crate::profile::file::{self, ProfileError};
use crate::profile::names;
use crate::step::setup::GpuArch;
use crate::units::Bytes;

/// What memory and scratch depend on, of one kind of GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuProfile {
    /// The name on the command line (`h100-80gb`).
    pub name: String,
    /// The name that NVML reports (`NVIDIA H100 80GB HBM3`).
    pub product_name: String,
    /// Total bytes as NVML reports them (v2), not the vendor's GB.
    pub total: Bytes,
    /// Bytes the driver keeps to itself, as NVML's v2 call reports them.
    pub reserved: Bytes,
    /// Compute capability and SM count.
    pub arch: GpuArch,
    /// L2 cache.
    pub l2: Bytes,
    /// Boost clock.
    pub clock_mhz: u64,
    /// Memory bandwidth, bytes a second.
    pub memory_bandwidth: u64,
    /// Host link bandwidth (PCIe or NVLink-C2C), bytes a second, one direction.
    pub host_link_bandwidth: u64,
    /// What a CUDA context with PyTorch's kernels loaded takes, outside the caching allocator.
    pub context: Bytes,
    /// Where the figures come from.
    pub source: String,
}

/// The file as people write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GpuFile {
    product_name: String,
    total_bytes: u64,
    reserved_bytes: u64,
    context_bytes: u64,
    compute_capability: String,
    sm_count: u32,
    l2_bytes: u64,
    boost_clock_mhz: u64,
    memory_bandwidth_bytes_per_second: u64,
    host_link_bytes_per_second: u64,
    source: String,
}

/// Every key of a GPU's file.
pub const KEYS: [&str; 11] = [
    "product_name",
    "total_bytes",
    "reserved_bytes",
    "context_bytes",
    "compute_capability",
    "sm_count",
    "l2_bytes",
    "boost_clock_mhz",
    "memory_bandwidth_bytes_per_second",
    "host_link_bytes_per_second",
    "source",
];

/// More than any GPU has, and small enough that sums of it cannot overflow.
pub const LARGEST_TOTAL: Bytes = Bytes::gib(16 << 10);

/// Returns the names of all built-in GPU profiles, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    embedded::GPUS.iter().map(|&(name, _)| name)
}

impl GpuProfile {
    /// Returns the built-in profile of that name; case does not count.
    ///
    /// ```
    /// let card = oomph::profile::gpu::GpuProfile::built_in("h100-80gb")?;
    /// assert_eq!(card.total, oomph::units::Bytes::mib(81_559));
    /// # Ok::<(), oomph::profile::file::ProfileError>(())
    /// ```
    ///
    /// # Errors
    /// [`ProfileError::UnknownName`], with the nearest name and all of them.
    pub fn built_in(name: &str) -> Result<GpuProfile, ProfileError> {
        let lower = name.trim().to_ascii_lowercase();
        match embedded::find(embedded::GPUS, &lower) {
            Some(text) => {
                GpuProfile::parse(&lower, text, &format!("built-in profiles/gpus/{lower}.toml"))
            }
            None => Err(ProfileError::UnknownName {
                kind: "GPU",
                name: name.to_owned(),
                nearest: names::nearest(name, names()),
                known: names().collect(),
            }),
        }
    }

    /// Returns the built-in profile of the product that NVML calls by this name, if there is one.
    pub fn of_product(product_name: &str) -> Option<GpuProfile> {
        names()
            .filter_map(|name| GpuProfile::built_in(name).ok())
            .find(|profile| profile.product_name == product_name)
    }

    /// Reads a user's own profile: one file, named as the file is without `.toml`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a GPU profile: names file, key and line.
    pub fn load(path: &Path) -> Result<GpuProfile, ProfileError> {
        let text = file::read(path)?;
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        GpuProfile::parse(&name, &text, &path.display().to_string())
    }

    /// Reads every `*.toml` of a folder as a user's own profiles, by name.
    ///
    /// # Errors
    /// The first file that cannot be read, or is not a GPU profile.
    pub fn load_folder(folder: &Path) -> Result<Vec<GpuProfile>, ProfileError> {
        let unreadable = |e: std::io::Error| ProfileError::Unreadable {
            file: folder.to_owned(),
            reason: e.to_string(),
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                files.push(path);
            }
        }
        files.sort();
        files.iter().map(|path| GpuProfile::load(path)).collect()
    }

    /// Returns a card that has `total` bytes and nothing else of its own.
    ///
    /// Everything that is not memory is taken from the A100 (8.0, 108 SMs), the GPU that an
    /// estimate assumes when none is named; nothing is reserved, so all of `total` is free.
    ///
    /// # Errors
    /// The built-in A100 profile is broken, which tests rule out.
    pub fn generic(total: Bytes) -> Result<GpuProfile, ProfileError> {
        let a100 = GpuProfile::built_in("a100-40gb")?;
        Ok(GpuProfile {
            name: exact(total),
            product_name: format!("generic GPU with {total}"),
            total,
            reserved: Bytes::ZERO,
            source: "the size that was asked for; all else as profiles/gpus/a100-40gb.toml".into(),
            ..a100
        })
    }

    fn parse(name: &str, text: &str, file: &str) -> Result<GpuProfile, ProfileError> {
        let card: GpuFile = file::parse(text, file, &KEYS)?;
        check(&card, text, file)?;
        let Some(compute_capability) = parse_capability(&card.compute_capability) else {
            let value = format!("`{}`", card.compute_capability);
            return Err(out_of_range(text, file, "compute_capability", value, "like \"8.0\""));
        };
        Ok(GpuProfile {
            name: name.to_owned(),
            product_name: card.product_name,
            total: Bytes::new(card.total_bytes),
            reserved: Bytes::new(card.reserved_bytes),
            arch: GpuArch { compute_capability, sm_count: card.sm_count },
            l2: Bytes::new(card.l2_bytes),
            clock_mhz: card.boost_clock_mhz,
            memory_bandwidth: card.memory_bandwidth_bytes_per_second,
            host_link_bandwidth: card.host_link_bytes_per_second,
            context: Bytes::new(card.context_bytes),
            source: card.source,
        })
    }
}

/// Refuses figures that no GPU has: most are a unit mistaken for another (GiB in a key of bytes).
fn check(card: &GpuFile, text: &str, file: &str) -> Result<(), ProfileError> {
    let mib = Bytes::mib(1).get();
    let total = card.total_bytes;
    let ranges: [(&'static str, u64, u64, u64); 7] = [
        ("total_bytes", total, 256 * mib, LARGEST_TOTAL.get()),
        ("reserved_bytes", card.reserved_bytes, 0, total / 2),
        ("context_bytes", card.context_bytes, mib, total / 2),
        ("sm_count", u64::from(card.sm_count), 1, 1024),
        ("l2_bytes", card.l2_bytes, 64 << 10, 4096 * mib),
        ("boost_clock_mhz", card.boost_clock_mhz, 100, 10_000),
        ("host_link_bytes_per_second", card.host_link_bytes_per_second, 100_000_000, 1 << 44),
    ];
    for (key, value, least, most) in ranges {
        if value < least || value > most {
            let allowed = format!("from {least} to {most}");
            return Err(out_of_range(text, file, key, value.to_string(), &allowed));
        }
    }
    let bandwidth = card.memory_bandwidth_bytes_per_second;
    if !(1_000_000_000..=1 << 47).contains(&bandwidth) {
        let key = "memory_bandwidth_bytes_per_second";
        return Err(out_of_range(text, file, key, bandwidth.to_string(), "bytes a second"));
    }
    for (key, value) in [("product_name", &card.product_name), ("source", &card.source)] {
        if value.trim().is_empty() {
            return Err(out_of_range(text, file, key, "empty".to_owned(), "a text"));
        }
    }
    Ok(())
}

fn out_of_range(
    text: &str,
    file: &str,
    key: &'static str,
    value: String,
    allowed: &str,
) -> ProfileError {
    let line = file::line_of(text, key);
    ProfileError::OutOfRange {
        file: file.to_owned(),
        line,
        key,
        value,
        allowed: allowed.to_owned(),
    }
}

/// Writes a size without rounding, as a specification takes it: `24GiB`, `24564MiB`, `16000000000B`.
fn exact(size: Bytes) -> String {
    let units = [("GiB", Bytes::gib(1)), ("MiB", Bytes::mib(1))];
    let whole = units.iter().find(|(_, unit)| size.get().is_multiple_of(unit.get()));
    match whole {
        Some((name, unit)) => format!("{}{name}", size.get() / unit.get()),
        None => format!("{}B", size.get()),
    }
}

fn parse_capability(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(major) || !digits(minor) {
        return None;
    }
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    (3..=99).contains(&major).then_some((major, minor)).filter(|&(_, minor)| minor < 10)
}
