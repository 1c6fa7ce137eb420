//! What the caching allocator may take: free memory, less what lies outside it, less the headroom.

use crate::units::{Bytes, DataParallelSize};

/// What NCCL takes of each device once communicators exist, an allowance.
///
/// Source: measured by others: 544 MB for 2 and 688 MB for more A100s with NVLink
/// (github.com/NVIDIA/nccl/issues/964); it grows with channels, so with faster links
/// (github.com/NVIDIA/nccl/issues/986). Rounded up, because under-estimating is what hurts.
pub const NCCL_ALLOWANCE: Bytes = Bytes::gib(1);

/// What PyTorch's kernels, loaded as they are needed, add to a bare context, an allowance.
///
/// Source: 249 MiB, the most measured: a process of PyTorch held 767 MiB outside its allocator on an
/// H200, where a bare context was 518 MiB (docs/guide/probe.md); 146 on an H100 and 96 on an RTX 6000
/// Ada (profiles/gpus). Rounded up.
pub const KERNELS_ALLOWANCE: Bytes = Bytes::mib(256);

/// A kind of device memory that PyTorch's caching allocator does not hand out, or that the trace
/// of a single device does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// The CUDA context, with PyTorch's kernels loaded.
    CudaContext,
    /// NCCL's buffers.
    Nccl,
    /// The buckets in which DistributedDataParallel sums gradients: as many bytes as they have.
    ///
    /// They come from the caching allocator; the trace of one device does not hold them.
    DdpBuckets,
}

impl Outside {
    /// Returns the name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Outside::CudaContext => "cuda_context",
            Outside::Nccl => "nccl",
            Outside::DdpBuckets => "ddp_buckets",
        }
    }

    /// Returns whether it is taken from the caching allocator, so from a capacity given by hand too.
    pub const fn in_allocator(self) -> bool {
        matches!(self, Outside::DdpBuckets)
    }
}

/// What a device spends beside the step itself, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutsideAllocator {
    /// Bytes of each kind.
    pub terms: Vec<(Outside, Bytes)>,
}

impl OutsideAllocator {
    /// Lists what a device spends: the context's allowance, and with several replicas NCCL's and
    /// the gradient buckets of DistributedDataParallel.
    ///
    /// Buckets: torch/csrc/distributed/c10d/reducer.cpp allocates one flat tensor a bucket, which
    /// together hold every gradient once; `gradient_as_bucket_view=False` is the default.
    pub fn new(context: Bytes, replicas: DataParallelSize, gradients: Bytes) -> OutsideAllocator {
        let mut terms = vec![(Outside::CudaContext, context)];
        if replicas.get() > 1 {
            terms.push((Outside::Nccl, NCCL_ALLOWANCE));
            terms.push((Outside::DdpBuckets, gradients));
        }
        OutsideAllocator { terms }
    }

    /// Returns the sum.
    pub fn total(&self) -> Bytes {
        self.terms.iter().map(|(_, bytes)| *bytes).sum()
    }

    /// Returns what the context with its kernels takes.
    pub fn context(&self) -> Bytes {
        let context = self.terms.iter().filter(|(kind, _)| *kind == Outside::CudaContext);
        context.map(|(_, bytes)| *bytes).sum()
    }

    /// Returns the same where a bare context was measured: kernels come on top of it, and it is never
    /// taken for less than its allowance.
    #[must_use]
    pub fn with_bare_context(mut self, bare: Bytes) -> OutsideAllocator {
        let loaded = bare + KERNELS_ALLOWANCE;
        let contexts = self.terms.iter_mut().filter(|(kind, _)| *kind == Outside::CudaContext);
        contexts.for_each(|(_, bytes)| *bytes = (*bytes).max(loaded));
        self
    }

    /// Keeps what counts against a capacity that the user gives: what the allocator hands out.
    #[must_use]
    pub fn within_allocator(mut self) -> OutsideAllocator {
        self.terms.retain(|(kind, _)| kind.in_allocator());
        self
    }
}

/// How the capacity of a device comes about; the terms sum to the free bytes, unless they exceed
/// them (then the capacity is zero).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// What the device has free, or the size that the user gave.
    pub free: Bytes,
    /// Whether the user gave it (`--capacity`).
    pub given: bool,
    /// Context, NCCL and the like.
    pub outside: Bytes,
    /// Left free on purpose.
    pub headroom: Bytes,
    /// What the caching allocator may take.
    pub bytes: Bytes,
}

impl Capacity {
    /// Works out the capacity of a device with `free` bytes.
    pub fn of_device(free: Bytes, outside: &OutsideAllocator, headroom: Bytes) -> Capacity {
        let outside = outside.total();
        let bytes = free.saturating_sub(outside).saturating_sub(headroom);
        Capacity { free, given: false, outside, headroom, bytes }
    }

    /// Takes what the user says the allocator may have: nothing lies outside it then.
    pub fn given(size: Bytes, outside: &OutsideAllocator, headroom: Bytes) -> Capacity {
        let within = outside.clone().within_allocator();
        Capacity { given: true, ..Capacity::of_device(size, &within, headroom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_free_less_outside_less_headroom() {
        let size = DataParallelSize::ONE;
        let context = OutsideAllocator::new(Bytes::gib(1), size, Bytes::ZERO);
        let capacity = Capacity::of_device(Bytes::gib(80), &context, Bytes::gib(2));
        assert_eq!(capacity.bytes, Bytes::gib(77));
        let none = Capacity::of_device(Bytes::gib(2), &context, Bytes::gib(2));
        assert_eq!(none.bytes, Bytes::ZERO, "never below zero");
        let given = Capacity::given(Bytes::gib(80), &context, Bytes::ZERO);
        assert_eq!(given.bytes, Bytes::gib(80), "the context lies outside what was given");
    }

    #[test]
    fn replicas_add_nccl_and_gradient_buckets() {
        let size = |n| DataParallelSize::new(n).expect("not zero");
        let one = OutsideAllocator::new(Bytes::mib(500), size(1), Bytes::gib(3));
        assert_eq!(one.total(), Bytes::mib(500));
        let eight = OutsideAllocator::new(Bytes::mib(500), size(8), Bytes::gib(3));
        assert_eq!(eight.total(), Bytes::mib(500) + NCCL_ALLOWANCE + Bytes::gib(3));
    }

    #[test]
    fn a_measured_context_leaves_kernels_and_nccl_their_own() {
        let replicas = DataParallelSize::new(2).expect("not zero");
        let outside = OutsideAllocator::new(Bytes::mib(600), replicas, Bytes::ZERO);
        let small = outside.clone().with_bare_context(Bytes::mib(300));
        assert_eq!(small, outside, "never less than the allowance");
        let large = outside.with_bare_context(Bytes::mib(500));
        assert_eq!(large.context(), Bytes::mib(756));
        assert_eq!(large.total(), Bytes::mib(756) + NCCL_ALLOWANCE);
    }
}
