#!/usr/bin/env python3
"""Whether programs pass or fail at each of many capacities: on the simulated GPU, and on the oracle's own driver.

    capacities.py --python VENV/bin/python [--nullcuda VENV/nullcuda.so] [--library FILE]
                  [--capacities 20] [--only NAME,NAME] [--out docs/simulated-gpu-capacities.md]

VENV has torch, transformers, peft, accelerate and liger-kernel, and the oracle's nullcuda.so and driver/
(build.sh of the oracle). A program first runs on 4 TiB; its peaks give the capacities, from nine tenths of what it
allocates to what it reserves, that and a granule less among them. Imports are made once a driver, then each run is a
fork. Exit code 1: somewhere the two do not agree, or a run failed for another reason than memory.
"""
import argparse, ctypes, json, os, pathlib, subprocess, sys, tempfile, time

from on_virtual_gpu import ROOT, install, newest_library

MIB = 1 << 20
GRANULE = 2 * MIB
PROGRAMS = {
    "gpt": ["train_tiny_gpt.py", "--batch-size", "2"],
    "gpt-amp-accumulated": ["train_tiny_gpt.py", "--batch-size", "2", "--accumulate", "2", "--amp"],
    "loop": ["loop.py"],
    "trainer": ["trainer.py"],
    "liger": ["liger.py"],
    "lengths": ["small.py", "lengths"],
    "checkpointed": ["small.py", "checkpointed"],
    "bert": ["small.py", "bert"],
    "t5": ["small.py", "t5"],
    "vit": ["small.py", "vit"],
}
WORDS = ("out of memory", "OutOfMemoryError", "ALLOC_FAILED")


# --- in the process that has the driver preloaded ---------------------------------------------------------------------

def child(program, capacity, answer):
    """Runs a program with that much memory; never returns."""
    scenario = os.environ.get("OOMPH_VIRTUAL_GPU")
    if scenario:
        path = f"{scenario}-{os.getpid()}"
        line = open(scenario).read().replace("total=4TiB", f"total={capacity}")
        with open(path, "w") as file:
            file.write(line)
        os.environ["OOMPH_VIRTUAL_GPU"] = path
    else:
        ctypes.CDLL(None).nullcuda_set_total(ctypes.c_uint64(capacity))
    import runpy
    import torch
    said = "ran"
    log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1), os.dup2(log, 2)
    sys.argv = [str(ROOT / "tests/programs" / program[0]), *program[1:]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except BaseException as error:
        out = any(word in f"{type(error).__name__}: {error}" for word in WORDS)
        said = "out of memory" if out else f"{type(error).__name__}: {error}"[:300]
    stats = torch.cuda.memory_stats() if torch.cuda.is_initialized() else {}
    keys = ["allocated_bytes.all.peak", "reserved_bytes.all.peak", "num_alloc_retries"]
    os.write(answer, json.dumps([said, *[stats.get(key, 0) for key in keys]]).encode())
    os._exit(0)


def serve():
    """Answers lines of `[program, capacity]`, each by a fork."""
    import torch
    sys.modules["bitsandbytes"] = None  # peft would import it, and it makes a context, which no fork may have
    asked, torch._C._cuda_getDeviceCount = torch._C._cuda_getDeviceCount, lambda: 1  # nor may CUDA have been asked
    for module in ["transformers", "accelerate", "peft", "liger_kernel.transformers", "torch.distributed.tensor"]:
        __import__(module)
    from transformers import (BertForMaskedLM, GPT2LMHeadModel, LlamaForCausalLM,  # noqa: F401
                              T5ForConditionalGeneration, Trainer, ViTForImageClassification)
    torch._C._cuda_getDeviceCount = asked
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        program, capacity = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            child(PROGRAMS[program], capacity, writing)
        os.close(writing)
        text = b"".join(iter(lambda: os.read(reading, 65536), b""))
        _, status = os.waitpid(pid, 0)
        scenario = pathlib.Path(os.environ.get("OOMPH_VIRTUAL_GPU", "/nowhere/x"))
        for file in scenario.parent.glob(f"{scenario.name}-{pid}*"):
            file.unlink()
        print(text.decode() or json.dumps([f"ended with status {status}", 0, 0, 0]), flush=True)


# --- around it --------------------------------------------------------------------------------------------------------

class Driver:
    """A process with a driver preloaded, which runs programs."""

    def __init__(self, python, environment):
        threads = dict(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
        self.process = subprocess.Popen([python, __file__, "--serve"], env=environment | threads, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.read() == "ready"

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the process with the driver ended: {self.process.wait()}")
        return json.loads(line)

    def run(self, program, capacity):
        self.process.stdin.write(json.dumps([program, capacity]) + "\n")
        self.process.stdin.flush()
        return self.read()


def environments(python, nullcuda, library, folder):
    """Returns the environments of the simulated GPU and of the oracle's own driver."""
    ours = install(folder, library, "a100-80gb")
    ours["LD_PRELOAD"], drivers = ours["NULLCUDA_SO"], str(folder / "driver")
    theirs = dict(os.environ, LD_PRELOAD=str(nullcuda), TORCH_CUDNN_V8_API_DISABLED="1", PYTORCH_JIT="0")
    theirs.pop("OOMPH_VIRTUAL_GPU", None)
    for environment, driver in [(ours, drivers), (theirs, str(nullcuda.parent / "driver"))]:
        environment["LD_LIBRARY_PATH"] = environment["TRITON_LIBCUDA_PATH"] = driver
        environment["PYTORCH_JIT"] = "0"
    return ours, theirs


def capacities(allocated, reserved, count):
    """Returns that many sizes, in whole granules, ascending."""
    low, high = allocated * 9 // 10 // GRANULE, -(-reserved // GRANULE)
    steps = {low + (high - low) * i // (count - 2) for i in range(count - 1)} | {high - 1}
    extra = high + 1
    while len(steps) < count:
        steps.add(extra)
        extra += 1
    return [step * GRANULE for step in sorted(steps)]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--python", required=True), a.add_argument("--nullcuda", type=pathlib.Path)
    a.add_argument("--library", type=pathlib.Path), a.add_argument("--capacities", type=int, default=20)
    a.add_argument("--only"), a.add_argument("--out", type=pathlib.Path)
    a = a.parse_args()
    names = a.only.split(",") if a.only else list(PROGRAMS)
    nullcuda = a.nullcuda or pathlib.Path(a.python).parents[1] / "nullcuda.so"
    begun, bad = time.time(), 0
    rows = ["| program | capacities, MiB | ran | out of memory | agree | and counters |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        drivers = [Driver(a.python, e) for e in
                   environments(a.python, nullcuda, a.library or newest_library(), pathlib.Path(folder))]
        for name in names:
            free = [driver.run(name, 4 << 40) for driver in drivers]
            if free[0][0] != "ran" or free[0] != free[1]:
                bad += 1
                print(f"{name} on 4 TiB: {free}", file=sys.stderr, flush=True)
                if free[0][0] != "ran" or free[1][0] != "ran":
                    continue
            sizes, agree, equal, ran = capacities(free[1][1], free[1][2], a.capacities), 0, 0, 0
            for size in sizes:
                ours, theirs = (driver.run(name, size) for driver in drivers)
                same = ours[0] == theirs[0] and ours[0] in ("ran", "out of memory")
                agree, equal, ran = agree + same, equal + (ours == theirs), ran + (theirs[0] == "ran")
                if not same:
                    bad += 1
                if ours != theirs:
                    print(f"{name} at {size // MIB} MiB: {ours}, the oracle's driver {theirs}", file=sys.stderr, flush=True)
            rows.append(f"| `{' '.join(PROGRAMS[name])}` | {sizes[0] // MIB:,} to {sizes[-1] // MIB:,} | {ran} | "
                        f"{len(sizes) - ran} | {agree} of {len(sizes)} | {equal} of {len(sizes)} |")
            print(rows[-1], f"{time.time() - begun:.0f} s", flush=True)
    version = subprocess.run([a.python, "-c", "import torch; print(torch.__version__, torch.version.cuda)"],
                             capture_output=True, text=True, check=True).stdout.split()
    if a.out:
        a.out.write_text("\n".join([
            "# Passing and failing, capacity by capacity", "",
            "Programs of `tests/programs/` at capacities from nine tenths of what they allocate to a little more than what",
            "they reserve, on the simulated GPU and on the memory oracle's own driver (a sketch in C that knows nothing of ours),",
            f"torch {version[0]}, CUDA {version[1]}. `agree`: both ran or both were PyTorch's out of memory. `and counters`: PyTorch's",
            "peaks (allocated, reserved) and its count of retries were equal as well, also where memory ran out.", "",
            "Made by `tests/oracle/capacities.py`.", "", *rows, ""]))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
