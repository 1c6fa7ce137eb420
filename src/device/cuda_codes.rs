//! Names, meanings and cures for the numbers that the CUDA driver returns.
//!
//! A table of our own over plain numbers: the bindings' enum is undefined behaviour on a code that
//! is newer than they are.

/// `CUDA_ERROR_OUT_OF_MEMORY`: an answer, not an error, while probing.
pub const OUT_OF_MEMORY: u32 = 2;

/// Returns the name of a code as cuda.h spells it, without `CUDA_ERROR_`.
pub fn name(code: u32) -> Option<&'static str> {
    let at = NAMES.binary_search_by_key(&code, |(code, _)| *code).ok()?;
    Some(NAMES[at].1)
}

/// Returns a code with its name, where it has one here.
pub fn describe(code: u32) -> String {
    match name(code) {
        Some(name) => format!("CUDA {code} (CUDA_ERROR_{name})"),
        None => format!("CUDA code {code}, which has no name here"),
    }
}

/// Returns what a code usually means for a probe, and what to do about it.
pub fn cure(code: u32) -> &'static str {
    match code {
        2 => "out of memory where little is asked for: see who holds it with `oomph gpus`",
        34 => {
            "a CUDA toolkit's stub libcuda.so was found before the driver's: take the \
             `.../stubs` folder off LD_LIBRARY_PATH"
        }
        36 | 802 => {
            "the driver is not ready for this GPU: update it, or start nvidia-fabricmanager"
        }
        46 => "another process has the GPU to itself (exclusive compute mode): wait until it ends",
        100 => {
            "no GPU is visible to CUDA: check /dev/nvidia*, and start a container with `--gpus all`"
        }
        101 => "the driver does not know this GPU any more: compare with `nvidia-smi -L`",
        102 => "the vGPU has no licence: see `nvidia-smi -q`",
        214 | 220 => "the GPU reports a hardware error: see `dmesg | grep -i xid`, and reset it",
        304 => "the operating system refused: check the permissions of /dev/nvidia*",
        800 => "the operation is not permitted: check the container's and cgroup's device rules",
        803 => "the driver and its library are of different versions: reboot or reload the modules",
        804 => {
            "a CUDA compatibility library (cuda-compat) does not support this GPU: take its folder \
             off LD_LIBRARY_PATH"
        }
        805..=810 => "the MPS server is in trouble: restart it (`nvidia-cuda-mps-control`)",
        999 => "the driver broke: see `dmesg | grep -i xid`; a reset or a reboot helps",
        _ => "see `dmesg | grep -i xid` and whether `nvidia-smi` works",
    }
}

/// Ascending by code.
///
/// Source: `CUresult` of cuda.h as cudarc 0.19.10 binds it for CUDA 13.4.
const NAMES: &[(u32, &str)] = &[
    (1, "INVALID_VALUE"),
    (2, "OUT_OF_MEMORY"),
    (3, "NOT_INITIALIZED"),
    (4, "DEINITIALIZED"),
    (5, "PROFILER_DISABLED"),
    (6, "PROFILER_NOT_INITIALIZED"),
    (7, "PROFILER_ALREADY_STARTED"),
    (8, "PROFILER_ALREADY_STOPPED"),
    (34, "STUB_LIBRARY"),
    (36, "CALL_REQUIRES_NEWER_DRIVER"),
    (46, "DEVICE_UNAVAILABLE"),
    (47, "MULTICAST_RESOURCE_FULL"),
    (100, "NO_DEVICE"),
    (101, "INVALID_DEVICE"),
    (102, "DEVICE_NOT_LICENSED"),
    (200, "INVALID_IMAGE"),
    (201, "INVALID_CONTEXT"),
    (202, "CONTEXT_ALREADY_CURRENT"),
    (205, "MAP_FAILED"),
    (206, "UNMAP_FAILED"),
    (207, "ARRAY_IS_MAPPED"),
    (208, "ALREADY_MAPPED"),
    (209, "NO_BINARY_FOR_GPU"),
    (210, "ALREADY_ACQUIRED"),
    (211, "NOT_MAPPED"),
    (212, "NOT_MAPPED_AS_ARRAY"),
    (213, "NOT_MAPPED_AS_POINTER"),
    (214, "ECC_UNCORRECTABLE"),
    (215, "UNSUPPORTED_LIMIT"),
    (216, "CONTEXT_ALREADY_IN_USE"),
    (217, "PEER_ACCESS_UNSUPPORTED"),
    (218, "INVALID_PTX"),
    (219, "INVALID_GRAPHICS_CONTEXT"),
    (220, "NVLINK_UNCORRECTABLE"),
    (221, "JIT_COMPILER_NOT_FOUND"),
    (222, "UNSUPPORTED_PTX_VERSION"),
    (223, "JIT_COMPILATION_DISABLED"),
    (224, "UNSUPPORTED_EXEC_AFFINITY"),
    (225, "UNSUPPORTED_DEVSIDE_SYNC"),
    (226, "CONTAINED"),
    (227, "INSUFFICIENT_LOADER_VERSION"),
    (300, "INVALID_SOURCE"),
    (301, "FILE_NOT_FOUND"),
    (302, "SHARED_OBJECT_SYMBOL_NOT_FOUND"),
    (303, "SHARED_OBJECT_INIT_FAILED"),
    (304, "OPERATING_SYSTEM"),
    (400, "INVALID_HANDLE"),
    (401, "ILLEGAL_STATE"),
    (402, "LOSSY_QUERY"),
    (500, "NOT_FOUND"),
    (600, "NOT_READY"),
    (700, "ILLEGAL_ADDRESS"),
    (701, "LAUNCH_OUT_OF_RESOURCES"),
    (702, "LAUNCH_TIMEOUT"),
    (703, "LAUNCH_INCOMPATIBLE_TEXTURING"),
    (704, "PEER_ACCESS_ALREADY_ENABLED"),
    (705, "PEER_ACCESS_NOT_ENABLED"),
    (708, "PRIMARY_CONTEXT_ACTIVE"),
    (709, "CONTEXT_IS_DESTROYED"),
    (710, "ASSERT"),
    (711, "TOO_MANY_PEERS"),
    (712, "HOST_MEMORY_ALREADY_REGISTERED"),
    (713, "HOST_MEMORY_NOT_REGISTERED"),
    (714, "HARDWARE_STACK_ERROR"),
    (715, "ILLEGAL_INSTRUCTION"),
    (716, "MISALIGNED_ADDRESS"),
    (717, "INVALID_ADDRESS_SPACE"),
    (718, "INVALID_PC"),
    (719, "LAUNCH_FAILED"),
    (720, "COOPERATIVE_LAUNCH_TOO_LARGE"),
    (721, "TENSOR_MEMORY_LEAK"),
    (800, "NOT_PERMITTED"),
    (801, "NOT_SUPPORTED"),
    (802, "SYSTEM_NOT_READY"),
    (803, "SYSTEM_DRIVER_MISMATCH"),
    (804, "COMPAT_NOT_SUPPORTED_ON_DEVICE"),
    (805, "MPS_CONNECTION_FAILED"),
    (806, "MPS_RPC_FAILURE"),
    (807, "MPS_SERVER_NOT_READY"),
    (808, "MPS_MAX_CLIENTS_REACHED"),
    (809, "MPS_MAX_CONNECTIONS_REACHED"),
    (810, "MPS_CLIENT_TERMINATED"),
    (811, "CDP_NOT_SUPPORTED"),
    (812, "CDP_VERSION_MISMATCH"),
    (900, "STREAM_CAPTURE_UNSUPPORTED"),
    (901, "STREAM_CAPTURE_INVALIDATED"),
    (902, "STREAM_CAPTURE_MERGE"),
    (903, "STREAM_CAPTURE_UNMATCHED"),
    (904, "STREAM_CAPTURE_UNJOINED"),
    (905, "STREAM_CAPTURE_ISOLATION"),
    (906, "STREAM_CAPTURE_IMPLICIT"),
    (907, "CAPTURED_EVENT"),
    (908, "STREAM_CAPTURE_WRONG_THREAD"),
    (909, "TIMEOUT"),
    (910, "GRAPH_EXEC_UPDATE_FAILURE"),
    (911, "EXTERNAL_DEVICE"),
    (912, "INVALID_CLUSTER_SIZE"),
    (913, "FUNCTION_NOT_LOADED"),
    (914, "INVALID_RESOURCE_TYPE"),
    (915, "INVALID_RESOURCE_CONFIGURATION"),
    (916, "KEY_ROTATION"),
    (917, "STREAM_DETACHED"),
    (918, "GRAPH_RECAPTURE_FAILURE"),
    (919, "FABRIC_NOT_READY"),
    (999, "UNKNOWN"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_code_is_found() {
        assert!(NAMES.is_sorted_by_key(|(code, _)| *code));
        for (code, expected) in NAMES {
            assert_eq!(name(*code), Some(*expected));
        }
    }

    #[test]
    fn an_unknown_code_is_named_by_its_number() {
        assert_eq!(describe(4711), "CUDA code 4711, which has no name here");
        assert_eq!(describe(2), "CUDA 2 (CUDA_ERROR_OUT_OF_MEMORY)");
    }
}
