"""A second of what a training loop asks of CUDA, without PyTorch: memory on the device and pinned, two workers, memory
that they share, and bytes that go back and forth; and somebody in a session of his own. Starts in a tenth of a second, so
that kills.py can end many. Nobody here ends by himself when the others are gone."""
import ctypes
import mmap
import multiprocessing
import subprocess
import time

MIB = 1 << 20


def work(shared, tasks):
    # It has its own pipe's other end as well (a fork), and so waits for ever for a parent that is dead.
    for index in iter(tasks.recv, None):
        shared[index] = index


def main():
    shared, workers, tasks = mmap.mmap(-1, MIB), [], []
    for _ in range(2):
        # A pipe each: a queue's lock would stay taken when a worker is killed.
        receives, sends = multiprocessing.Pipe(duplex=False)
        workers.append(multiprocessing.Process(target=work, args=(shared, receives), daemon=True))
        workers[-1].start()
        receives.close()
        tasks.append(sends)
    apart = subprocess.Popen(["sleep", "600"], start_new_session=True)
    cuda = ctypes.CDLL(None)  # the simulated GPU, which is loaded before everything else
    held, pinned = [], ctypes.c_void_p()
    assert cuda.cudaHostAlloc(ctypes.byref(pinned), ctypes.c_size_t(8 * MIB), 0) == 0
    for step in range(100):
        tasks[step % 2].send(step)
        if step % 5 == 0:
            block = ctypes.c_void_p()
            assert cuda.cudaMalloc(ctypes.byref(block), ctypes.c_size_t(40 * MIB)) == 0
            held.append(block)
        assert cuda.cudaMemcpy(held[-1], pinned, ctypes.c_size_t(4096), 1) == 0
        assert cuda.cudaMemcpy(pinned, held[-1], ctypes.c_size_t(4096), 2) == 0
        time.sleep(0.01)
    apart.kill()
    for worker, sends in zip(workers, tasks):
        sends.send(None)
        worker.join()


if __name__ == "__main__":
    main()
