//! `cudaDeviceProp`, whose layout moved between the runtime's versions.
//!
//! Source: driver_types.h of CUDA 11.8, 12.8 and 13.2.

use std::ffi::c_void;

use super::version::version;
use crate::c::{NullPointer, Out};
use crate::call::{Call, Outcome};
use crate::cuda::device::{memory_clock_khz, uuid_bytes};
use crate::cuda::{generation, limit};

/// `struct cudaDeviceProp` of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Of CUDA 11, which 12 keeps under the old name: ends with reservedSharedMemPerBlock.
    Eleven,
    Twelve,
    Thirteen,
}

/// `cudaGetDeviceProperties_v2`: the name that programs built with CUDA 12 call.
pub fn get_v2(call: &mut Call, properties: Out<c_void>, device: i32) -> Outcome {
    get(call, &properties, device, Layout::Twelve)
}

/// `cudaGetDeviceProperties`: before 12, and from 13 on.
pub fn get_plain(call: &mut Call, properties: Out<c_void>, device: i32) -> Outcome {
    let layout = if version() >= 13000 { Layout::Thirteen } else { Layout::Eleven };
    get(call, &properties, device, layout)
}

fn get(call: &mut Call, properties: &Out<c_void>, device: i32, layout: Layout) -> Outcome {
    call.runtime_init()?;
    let place = call.device(device)?;
    call.works_at(place)?;
    let bytes = describe(call, place, layout);
    if properties.is_null() {
        return Err(NullPointer.into());
    }
    Ok(properties.set_bytes(&bytes)?)
}

/// Fields one after the other, each at its own alignment, as C lays them out.
struct Fields(Vec<u8>);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn ints(&mut self, values: &[i64]) {
        for value in values {
            self.0.resize(self.0.len().next_multiple_of(4), 0);
            self.bytes(&(*value as u32).to_le_bytes());
        }
    }

    fn size(&mut self, value: u64) {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self.bytes(&value.to_le_bytes());
    }
}

fn describe(call: &Call, place: usize, layout: Layout) -> Vec<u8> {
    let scenario = call.scenario;
    let gpu = scenario.gpu_at(place);
    let of = &scenario.places[place];
    let limits = generation::limits(gpu.capability);
    let (major, minor) = gpu.capability;
    let sms = of.mig.as_ref().map_or(gpu.sms, |mig| mig.sms);
    let mut name = [0; 256];
    let text = scenario.name(place).into_bytes();
    name[..text.len().min(255)].copy_from_slice(&text[..text.len().min(255)]);
    let old = layout != Layout::Thirteen;
    let before_13 = |values: &'static [i64]| if old { values } else { &[] };

    let mut f = Fields(Vec::new());
    f.bytes(&name);
    f.bytes(&uuid_bytes(scenario.uuid(place)));
    f.bytes(&[0; 8]); // luid
    f.ints(&[0]);
    f.size(limit::total(scenario, place));
    f.size(48 << 10);
    f.ints(&[65536, 32]); // registers of a block, warp
    f.size(i32::MAX as u64); // pitch
    f.ints(&[1024, 1024, 1024, 64, i64::from(i32::MAX), 65535, 65535]); // threads, grid
    if old {
        f.ints(&[i64::from(gpu.clock_mhz) * 1000]);
    }
    f.size(64 << 10); // constants
    f.ints(&[i64::from(major), i64::from(minor)]);
    f.size(512);
    f.size(32);
    f.ints(before_13(&[1])); // deviceOverlap
    f.ints(&[i64::from(sms)]);
    f.ints(before_13(&[0])); // kernelExecTimeoutEnabled
    f.ints(&[i64::from(gpu.integrated), 1]);
    if old {
        f.ints(&[i64::from(gpu.compute_mode)]);
    }
    f.ints(&[131072, 32768]); // textures and surfaces, as an A100 has them
    f.ints(before_13(&[268435456]));
    f.ints(&[131072, 65536, 32768, 32768, 131072, 65000, 2097120, 32768, 32768]);
    f.ints(&[16384, 16384, 16384, 8192, 8192, 32768, 32768, 32768, 2048, 32768, 32768, 2048]);
    f.ints(&[32768, 2046, 32768, 131072, 65536, 16384, 16384, 16384, 32768, 2048, 32768, 32768]);
    f.ints(&[2048, 32768, 32768, 2046]);
    f.size(512);
    f.ints(&[1, 0, of.gpu as i64 + 1, 0, 0, 0, 3, 1]); // concurrentKernels to unifiedAddressing
    if old {
        f.ints(&[memory_clock_khz(gpu) as i64]);
    }
    f.ints(&[i64::from(gpu.bus_bits), gpu.l2 as i64, (gpu.l2 * 3 / 4) as i64]);
    f.ints(&[i64::from(limits.threads), 1, 1, 1]);
    f.size(u64::from(limits.shared_memory));
    f.ints(&[65536, 1, 0, 0, 0]); // registers, managedMemory, board, board's group, atomics
    f.ints(before_13(&[2])); // singleToDoublePrecisionPerfRatio
    f.ints(&[0, 1, 1, 1, 1]); // pageableMemoryAccess to cooperativeLaunch
    f.ints(before_13(&[1])); // cooperativeMultiDeviceLaunch
    f.size(u64::from(limits.shared_memory_of_block));
    f.ints(&[0, 0, i64::from(limits.blocks), 128 << 20]);
    f.size(u64::from(limits.shared_memory_reserved));
    if layout != Layout::Eleven {
        // hostRegisterSupported to unifiedFunctionPointers
        f.ints(&[1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, i64::from(major >= 9), 0]);
        f.ints(&[0; 63]); // 13 has seven fields here, and 56 that are reserved
    }
    f.0.resize(f.0.len().next_multiple_of(8), 0);
    f.0
}
