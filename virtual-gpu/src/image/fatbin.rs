//! Fat binaries: a kernel's code for several architectures, as nvcc embeds it.
//!
//! Source: fatbinary_section.h of the CUDA toolkit for the wrapper; the container as `cuobjdump`
//! lists it (checked on libtorch_cuda.so of 2.8 and 2.15).

/// `__fatBinC_Wrapper_t`
#[repr(C)]
pub struct Wrapper {
    magic: u32,
    version: u32,
    data: *const u8,
    more: *const u8,
}

const WRAPPER_MAGIC: u32 = 0x4662_43b1;
const CONTAINER_MAGIC: u32 = 0xba55_ed50;
const PTX: u16 = 1;
const ELF: u16 = 2;
/// Bytes of a container's header before its entries, and of an entry up to its architecture.
const LEAST_HEADER: usize = 16;
const LEAST_ENTRY: usize = 32;

/// Code for one architecture: 75 is compute capability 7.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Machine code, or else PTX, which the driver compiles for later cards.
    pub machine_code: bool,
    /// Ten times the compute capability.
    pub architecture: u32,
}

impl Image {
    /// Whether it runs on a card: machine code on its own generation from its own capability on,
    /// PTX on every later one.
    ///
    /// Source: CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility".
    pub fn runs_on(self, card: u32) -> bool {
        let same = self.architecture / 10 == card / 10;
        self.architecture <= card && (same || !self.machine_code)
    }
}

/// Returns the images of a registered fat binary; none when it is not one that is understood.
///
/// # Safety
///
/// `wrapper` is null or what nvcc passes to `__cudaRegisterFatBinary`.
pub unsafe fn images(wrapper: *const Wrapper) -> Vec<Image> {
    let mut images = Vec::new();
    // SAFETY: as the caller says.
    let Some(wrapper) = (unsafe { wrapper.as_ref() }) else {
        return images;
    };
    if wrapper.magic != WRAPPER_MAGIC || wrapper.data.is_null() {
        return images;
    }
    let read = |offset: usize, bytes: usize| {
        // SAFETY: within a container, whose own sizes bound what is read below.
        let at = unsafe { std::slice::from_raw_parts(wrapper.data.add(offset), bytes) };
        at.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let (header, length) = (read(6, 2) as usize, read(8, 8) as usize);
    if read(0, 4) != u64::from(CONTAINER_MAGIC) || header < LEAST_HEADER {
        return images;
    }
    let mut at = header;
    while at + LEAST_ENTRY <= header + length {
        let (kind, entry) = (read(at, 2) as u16, read(at + 4, 4) as usize);
        let (data, architecture) = (read(at + 8, 8) as usize, read(at + 28, 4) as u32);
        if entry < LEAST_ENTRY {
            break;
        }
        if matches!(kind, PTX | ELF) {
            images.push(Image { machine_code: kind == ELF, architecture });
        }
        at += entry + data;
    }
    images
}
