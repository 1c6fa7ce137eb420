"""A second of what a training loop asks of CUDA, without PyTorch: memory on the device and pinned, two workers, memory
that they share, and bytes that go back and forth. Starts in a tenth of a second, so that kills.py can end many."""
import ctypes
import mmap
import multiprocessing
import os
import time

MIB = 1 << 20


def work(shared, tasks, parent):
    # As DataLoader's workers do, it looks from time to time whether there still is somebody to work for.
    while os.getppid() == parent:
        if tasks.poll(0.5):
            index = tasks.recv()
            if index is None:
                break
            shared[index] = index


def main():
    shared, workers, tasks = mmap.mmap(-1, MIB), [], []
    for _ in range(2):
        # A pipe each: a queue's lock would stay taken when a worker is killed.
        receives, sends = multiprocessing.Pipe(duplex=False)
        workers.append(multiprocessing.Process(target=work, args=(shared, receives, os.getpid()), daemon=True))
        workers[-1].start()
        receives.close()
        tasks.append(sends)
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
    for worker, sends in zip(workers, tasks):
        sends.send(None)
        worker.join()


if __name__ == "__main__":
    main()
