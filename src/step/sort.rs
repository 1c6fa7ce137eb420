//! Temporary storage of CUB's sorts and scans, as the embedding's gradient takes it.
//!
//! Source: CUB `dispatch_radix_sort.cuh`, `dispatch_unique_by_key.cuh`, `dispatch_scan.cuh`. Tile
//! sizes are those of compute capability 8.0, found by running `embedding_dense_backward` on the
//! oracle with 3,073 to 2,097,152 indices on torch 2.15 and 2.8.

use crate::step::setup::Version;

/// CUB aligns each part of its temporary storage to this many bytes.
const ALIGN: u64 = 256;

/// From this version on CUB sizes its histograms by the bits sorted, and keeps 256 bytes more in
/// scans. Run on 2.8 and 2.15; where between them it changed is not known.
const SORT_BY_BITS: Version = Version::new(2, 15);

fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}

/// Returns the bits that indices below `rows` are sorted by.
pub fn index_bits(rows: u64) -> u64 {
    u64::from(64 - rows.leading_zeros()).max(1)
}

/// Pairs of 64-bit keys and values to sort, by the lowest bits of the keys.
#[derive(Debug, Clone, Copy)]
pub struct CubPairs {
    /// Pairs.
    pub count: u64,
    /// Bits that keys are sorted by.
    pub bits: u64,
}

impl CubPairs {
    /// Up to this many pairs are one tile, sorted by one kernel without storage of its own; found
    /// on the oracle.
    const ONE_TILE: u64 = 2304;

    /// Returns the bytes of temporary storage.
    pub fn bytes(self) -> u64 {
        if self.count <= CubPairs::ONE_TILE { 1 } else { self.many_tiles_bytes() }
    }

    /// Returns the bytes where there is more than one tile: a histogram for each pass of eight
    /// bits, a look-back for each tile of 3,840, and two buffers between passes.
    pub fn many_tiles_bytes(self) -> u64 {
        let passes = self.bits.div_ceil(8);
        let buffers = if passes > 1 { 2 * aligned(8 * self.count) } else { 0 };
        let tiles = self.count.div_ceil(3840);
        buffers + passes * 256 * 8 + tiles * 256 * 4 + ALIGN + (ALIGN - 1)
    }
}

/// Returns the bytes that sorting `count` pairs of 64-bit keys below `rows` and values takes.
///
/// Until [`SORT_BY_BITS`] histograms are made for all 64 bits.
pub fn radix_sort_bytes(count: u64, rows: u64, torch: Version) -> u64 {
    let bits = if torch >= SORT_BY_BITS { index_bits(rows) } else { 64 };
    CubPairs { count, bits }.many_tiles_bytes()
}

/// Returns the bytes that finding the first of each run of `count` sorted keys takes.
pub fn unique_by_key_bytes(count: u64, torch: Version) -> u64 {
    let (tile, parts) = if torch >= SORT_BY_BITS { (672, 2) } else { (896, 1) };
    aligned((count.div_ceil(tile) + 32) * 8) + parts * ALIGN + (ALIGN - 1)
}

/// Returns the bytes that a prefix sum over `count` values of `width` bytes takes: a state of twice
/// their width for each tile.
pub fn scan_bytes(count: u64, width: u64, torch: Version) -> u64 {
    let parts = if torch >= SORT_BY_BITS { 1 } else { 0 };
    aligned((count.div_ceil(896) + 32) * 2 * width) + parts * ALIGN + (ALIGN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Version = Version::new(2, 15);
    const OLD: Version = Version::new(2, 8);

    #[test]
    fn storage_is_what_the_oracle_takes() {
        assert_eq!(radix_sort_bytes(4096, 1000, NEW), 72_191);
        assert_eq!(radix_sort_bytes(5000, 128_256, NEW), 89_087);
        assert_eq!(radix_sort_bytes(2_097_152, 1000, NEW), 34_119_167);
        assert_eq!(radix_sort_bytes(4096, 1000, OLD), 84_479);
        assert_eq!(CubPairs { count: 2304, bits: 13 }.bytes(), 1);
        assert_eq!(CubPairs { count: 2305, bits: 13 }.bytes(), 43_007);
        assert_eq!(CubPairs { count: 8192, bits: index_bits(255) }.bytes(), 5631);
        assert_eq!(CubPairs { count: 8192, bits: index_bits(256) }.bytes(), 138_751);
        assert_eq!(CubPairs { count: 4097, bits: 64 }.bytes(), 84_991);
        assert_eq!(scan_bytes(128, 4, NEW), 1023);
        assert_eq!(scan_bytes(128, 4, OLD), 767);
        assert_eq!(unique_by_key_bytes(4096, NEW), 1279);
        assert_eq!(unique_by_key_bytes(2_097_152, NEW), 26_111);
        assert_eq!(unique_by_key_bytes(100_000, OLD), 1791);
        assert_eq!(scan_bytes(1000, 8, NEW), 1279);
        assert_eq!(scan_bytes(128_256, 8, NEW), 3327);
        assert_eq!(scan_bytes(100_000, 8, OLD), 2559);
    }
}
