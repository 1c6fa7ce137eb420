//! What follows from a card's compute capability.

/// Limits of one multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Shared memory of a multiprocessor, bytes.
    pub shared_memory: u32,
    /// Shared memory that a block can ask for, bytes.
    pub shared_memory_of_block: u32,
    /// Threads.
    pub threads: u32,
    /// Blocks.
    pub blocks: u32,
    /// Shared memory that the system keeps of each block, bytes.
    pub shared_memory_reserved: u32,
}

impl Limits {
    const fn new(shared_kib: u32, block_kib: u32, threads: u32, blocks: u32) -> Limits {
        Limits {
            shared_memory: shared_kib << 10,
            shared_memory_of_block: block_kib << 10,
            threads,
            blocks,
            shared_memory_reserved: 0,
        }
    }

    /// A block can ask for all but the KiB that the system keeps of each: from 8.0 on.
    const fn but_one(shared_kib: u32, threads: u32, blocks: u32) -> Limits {
        let shared_memory_reserved = 1 << 10;
        Limits {
            shared_memory_reserved,
            ..Limits::new(shared_kib, shared_kib - 1, threads, blocks)
        }
    }

    /// How many blocks of that many threads and that much shared memory fit.
    pub fn blocks_of(self, threads: u32, shared_memory: u64) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let by_threads = self.threads / (warps * 32);
        let wanted = shared_memory + u64::from(self.shared_memory_reserved);
        let by_memory = match shared_memory {
            0 => u64::from(self.blocks),
            _ => u64::from(self.shared_memory) / wanted,
        };
        self.blocks.min(by_threads).min(u32::try_from(by_memory).unwrap_or(u32::MAX))
    }
}

/// Returns the limits of a compute capability; of 8.0 where it is not known.
///
/// Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
pub fn limits((major, minor): (u32, u32)) -> Limits {
    match (major, minor) {
        (6, 0) => Limits::new(64, 48, 2048, 32),
        (6, 1) => Limits::new(96, 48, 2048, 32),
        (7, 0) => Limits::new(96, 96, 2048, 32),
        (7, 5) => Limits::new(64, 64, 1024, 16),
        (8, 6) => Limits::but_one(100, 1536, 16),
        (8, 7) => Limits::but_one(164, 1536, 16),
        (8, 9) => Limits::but_one(100, 1536, 24),
        (9, _) | (10, _) => Limits::but_one(228, 2048, 32),
        (11, _) => Limits::but_one(228, 1536, 24),
        (12, _) => Limits::but_one(100, 1536, 24),
        _ => Limits::but_one(164, 2048, 32),
    }
}
