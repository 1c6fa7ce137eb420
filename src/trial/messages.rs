//! What programs print when memory has run out: the one table of it.

/// Which memory it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The GPU's.
    Device,
    /// The machine's own.
    Host,
    /// A process of the command was killed, by whom it does not say.
    Killed,
}

/// A piece of text that says so.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// What the line has in it.
    pub text: &'static str,
    /// Which memory it is about.
    pub memory: Memory,
    /// Who prints it.
    pub by: &'static str,
}

const fn device(by: &'static str, text: &'static str) -> Message {
    Message { text, memory: Memory::Device, by }
}

const fn host(by: &'static str, text: &'static str) -> Message {
    Message { text, memory: Memory::Host, by }
}

const fn killed(by: &'static str, text: &'static str) -> Message {
    Message { text, memory: Memory::Killed, by }
}

/// Every known message, each with its source.
pub static MESSAGES: &[Message] = &[
    // c10/cuda/CUDACachingAllocator.cpp: "CUDA out of memory. Tried to allocate ".
    device("PyTorch", "CUDA out of memory"),
    device("PyTorch", "HIP out of memory"),
    // torch/__init__.py (2.5 and later), torch/cuda/__init__.py (before): the class' name.
    device("PyTorch", "OutOfMemoryError"),
    // c10/cuda/CUDAException.cpp: "CUDA error: " and cudaGetErrorString(2).
    device("PyTorch", "CUDA error: out of memory"),
    // aten/src/ATen/cuda/CublasHandlePool.cpp, at::cuda::blas::_cublasGetErrorEnum.
    device("PyTorch", "CUBLAS_STATUS_ALLOC_FAILED"),
    // aten/src/ATen/cudnn/Exceptions.h with cudnnGetErrorString.
    device("PyTorch", "CUDNN_STATUS_ALLOC_FAILED"),
    // accelerate/utils/memory.py, find_executable_batch_size.
    device("accelerate", "No executable batch size found, reached zero"),
    // bitsandbytes csrc/ops.cuh, CUDA_CHECK_RETURN: "Error %s at line %d in file %s".
    device("bitsandbytes", "Error out of memory at line"),
    // nccl src/include/checks.h, CUDACHECK: "Cuda failure '%s'", later "Cuda failure %d '%s'".
    device("NCCL", "Cuda failure 'out of memory'"),
    device("NCCL", "Cuda failure 2 'out of memory'"),
    // triton python/triton/backends/nvidia/driver.c, gpuAssert: "Triton Error [CUDA]: ".
    device("Triton", "Triton Error [CUDA]: out of memory"),
    // xla/stream_executor and xla/tsl/framework/bfc_allocator.cc, as absl prints the status.
    device("JAX", "RESOURCE_EXHAUSTED: Out of memory"),
    device("JAX", "Out of memory while trying to allocate"),
    // The same words as of the GPU's, and then whose: tensorflow/tensorflow#45238.
    host("TensorFlow", "device:CPU:0 by allocator cpu"),
    // tensorflow/core/framework/op_kernel.cc: "OOM when allocating tensor with shape".
    device("TensorFlow", "OOM when allocating tensor"),
    // Operators that are generated, in the log (older versions: iperov/DeepFaceLab#5581) and in the
    // exception's text.
    device("TensorFlow", "Resource exhausted: failed to allocate memory"),
    device("TensorFlow", "RESOURCE_EXHAUSTED: failed to allocate memory"),
    device("TensorFlow", "failed to allocate memory [Op:"),
    // cupy/cuda/memory.pyx: "Out of memory allocating {} bytes".
    device("CuPy", "Out of memory allocating"),
    // cuda.h's name of error 2, as Numba and drivers' own tools print it.
    device("the CUDA driver", "CUDA_ERROR_OUT_OF_MEMORY"),
    device("the CUDA runtime", "cudaErrorMemoryAllocation"),
    // c10/core/impl/alloc_cpu.cpp: "DefaultCPUAllocator: can't allocate memory".
    host("PyTorch", "DefaultCPUAllocator: can't allocate memory"),
    host("PyTorch", "DefaultCPUAllocator: not enough memory"),
    // torch/utils/data/_utils/signal_handling.py.
    host("PyTorch", "is killed by signal: Killed"),
    // mm/oom_kill.c of Linux; slurmstepd's epilogue.
    host("the kernel", "Out of memory: Killed process"),
    host("the kernel", "Memory cgroup out of memory: Killed process"),
    host("Slurm", "oom_kill event"),
    host("Slurm", "oom-kill event"),
    // torch/distributed/elastic/multiprocessing/errors/__init__.py, and api.py beside it.
    killed("torchrun", "Signal 9 (SIGKILL) received by PID"),
    killed("torchrun", "failed (exitcode: -9)"),
    // deepspeed/launcher/launch.py.
    killed("DeepSpeed", "exits with return code = -9"),
    // Open MPI's orterun.
    killed("Open MPI", "exited on signal 9 (Killed)"),
];

/// Returns the first message that is in a line.
pub fn find(line: &[u8]) -> Option<&'static Message> {
    let line = String::from_utf8_lossy(line);
    MESSAGES.iter().find(|message| line.contains(message.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_programs_print_them_are_known() {
        for (line, by, memory) in [
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 96.00 MiB. GPU 0 has a \
                 total capacity of 1.50 GiB of which 12.00 MiB is free.",
                "PyTorch",
                Memory::Device,
            ),
            ("[rank1]: torch.cuda.OutOfMemoryError", "PyTorch", Memory::Device),
            (
                "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while \
                 trying to allocate 34359738368 bytes.",
                "JAX",
                Memory::Device,
            ),
            ("node7:11:11 [0] NCCL WARN Cuda failure 2 'out of memory'", "NCCL", Memory::Device),
            (
                "Error out of memory at line 380 in file /src/csrc/pythonInterface.cpp",
                "bitsandbytes",
                Memory::Device,
            ),
            (
                "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: \
                 can't allocate memory: you tried to allocate 8 bytes.",
                "PyTorch",
                Memory::Host,
            ),
            ("[ 12.3] Out of memory: Killed process 4242 (python3)", "the kernel", Memory::Host),
            ("  traceback : Signal 9 (SIGKILL) received by PID 4242", "torchrun", Memory::Killed),
            (
                "E1127 04:36 1 torch/distributed/elastic/multiprocessing/api.py:984] failed \
                 (exitcode: -9) local_rank: 0 (pid: 4242) of binary: /usr/bin/python",
                "torchrun",
                Memory::Killed,
            ),
        ] {
            let found = find(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.by, found.memory), (by, memory), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "step 3 loss 2.31 memory 4.2 GiB",
            "ValueError: out of range",
            "Allocator (GPU_0_bfc) ran out of memory trying to allocate 2.00GiB. The caller \
             indicates that this is not a failure",
        ] {
            assert_eq!(find(line.as_bytes()), None, "{line}");
        }
    }
}
