#!/usr/bin/env python3
"""Runs training programs, unmodified, on simulated GPUs, and writes what came of it as a table.

    run.py --python VENV/bin/python [--python VENV2/bin/python ...] [--oomph target/debug/oomph]
           [--only NAME,NAME] [--out docs/simulated-gpu-programs.md]

Needs no GPU. README.md says how to make the environments; what a program needs and an environment lacks is said, and no row
of the table. Each program runs by `oomph run --gpu sim:a100-80gb[*N] --json`. What is not run keeps its row in FILE. Below the rows
stand the environments that they ran in, and the notes of `notes.md`: a paragraph that begins with `[NAME TORCH]` where there
is such a row (`[compiled 2.4]`), others always. Exit code 1: a program that should run did not.
"""
import argparse, json, os, pathlib, re, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
ASYNC = {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}
RANKS = ["-m", "torch.distributed.run", "--nproc-per-node", "4"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--config_file"]

# name, what it is, GPUs, arguments of python, environment, modules it needs
PROGRAMS = [
    ("loop", "DataLoader workers, pinned memory, autocast fp16, GradScaler, convolutions, a checkpoint", 1, ["loop.py"], {}, []),
    ("trainer", "HF Trainer with LoRA: bf16, accumulation, fused AdamW, evaluation, checkpoint", 1, ["trainer.py"], {}, ["peft", "accelerate"]),
    ("seven-billion", "LoRA on a Llama of 7 billion parameters from a safetensors file; asserts that host memory stays below its weights", 1, ["seven_billion.py"], {}, ["peft", "accelerate"]),
    ("qlora", "QLoRA: bitsandbytes nf4, paged 8-bit AdamW", 1, ["qlora.py"], {}, ["bitsandbytes", "peft"]),
    ("liger", "Liger kernels (Triton) in a Llama", 1, ["liger.py"], {}, ["liger_kernel"]),
    ("lightning", "Lightning: `16-mixed`, accumulation, clipping, validation, a checkpoint", 1, ["lightning_mixed.py"], {}, ["lightning"]),
    ("images", "timm: EfficientNet (channels-last, mixup, averaged model), ViT with checkpointing", 1, ["images.py"], {}, ["timm"]),
    ("unet", "diffusers: a conditioned UNet, bf16 autocast, checkpointing", 1, ["unet.py"], {}, ["diffusers"]),
    ("detection", "torchvision: Faster R-CNN", 1, ["detection.py"], {}, ["torchvision"]),
    ("compiled", "torch.compile of a Llama (inductor, Triton)", 1, ["compiled.py"], {}, []),
    ("compiled-gpt", "torch.compile of a plain GPT: bf16 autocast, accumulation, clipping, fused AdamW", 1, ["compiled_gpt.py"], {}, []),
    ("jitted", "kernels that PyTorch compiles as it runs (NVRTC)", 1, ["jitted.py"], {}, []),
    ("graphs", "CUDA graphs: `mode=\"reduce-overhead\"`, and a capture by hand", 1, ["graphs.py"], {}, []),
    ("expandable", "the plain loop with `expandable_segments:True`", 1, ["loop.py"], EXPANDABLE, []),
    ("malloc-async", "the plain loop with `backend:cudaMallocAsync`", 1, ["loop.py"], ASYNC, []),
    ("recorded", "`torch.utils.checkpoint`, autocast fp16, pinned memory, PyTorch's memory history", 1, ["recorded.py"], {}, []),
    ("halving", "HF Trainer with `auto_find_batch_size`: out of memory at first, and goes on with fewer", 1, ["halving.py"], {}, ["accelerate"]),
    ("sft", "TRL: SFTTrainer with DoRA", 1, ["preferences.py", "sft"], {}, ["trl", "peft"]),
    ("dpo", "TRL: DPOTrainer with a reference model", 1, ["preferences.py", "dpo"], {}, ["trl", "peft"]),
    ("embeddings", "sentence-transformers: its trainer, pairs", 1, ["embeddings.py"], {}, ["sentence_transformers"]),
    ("yolo", "ultralytics: YOLO11n, an epoch and its validation", 1, ["yolo.py"], {}, ["ultralytics"]),
    ("graph-networks", "torch_geometric: GCN and GAT by edges, GCN by a sparse matrix", 1, ["graph_networks.py"], {}, ["torch_geometric"]),
    ("flexible", "`flex_attention`, compiled: a mask by blocks, a bias", 1, ["flexible.py"], {}, []),
    ("low-bits", "torchao: AdamW in 8 and 4 bits, and on the host", 1, ["low_bits.py", "optimizers"], {}, ["torchao"]),
    ("float8", "torchao: training in float8, compiled, on an H100", 1, ["low_bits.py", "float8"], {}, ["torchao"]),
    ("ddp", "DDP under torchrun, 4 GPUs", 4, [*RANKS, "ranks.py", "ddp"], {}, []),
    ("fsdp1", "FSDP1 under torchrun, 4 GPUs", 4, [*RANKS, "ranks.py", "fsdp1"], {}, []),
    ("fsdp2", "FSDP2 under torchrun, 4 GPUs", 4, [*RANKS, "ranks.py", "fsdp2"], {}, []),
    ("tp", "tensor parallel by DTensor under torchrun, 4 GPUs", 4, [*RANKS, "ranks.py", "tp"], {}, []),
    ("lightning-ddp", "Lightning's own DDP launcher, 4 GPUs", 4, ["lightning_mixed.py", "4"], {}, ["lightning"]),
    ("zero1", "DeepSpeed ZeRO-1 in fp16 under torchrun, 4 GPUs", 4, [*RANKS, "zero.py", "1", "fp16"], {}, ["deepspeed"]),
    ("zero2", "DeepSpeed ZeRO-2 under torchrun, 4 GPUs", 4, [*RANKS, "zero.py", "2"], {}, ["deepspeed"]),
    ("zero3", "DeepSpeed ZeRO-3 under torchrun, 4 GPUs", 4, [*RANKS, "zero.py", "3"], {}, ["deepspeed"]),
    ("zero3-offload", "DeepSpeed ZeRO-3, parameters and optimizer on the host, 4 GPUs", 4, [*RANKS, "zero.py", "3", "bf16", "offload"], {}, ["deepspeed"]),
    ("accelerate", "accelerate launch: FSDP2 by a configuration file, checkpointing, 4 GPUs", 4, [*ACCELERATE, "launched.yaml", "launched.py"], {}, ["accelerate"]),
    ("hsdp", "`fully_shard` over 2 x 2 GPUs: meta device, bf16, checkpointing of each block", 4, [*RANKS, "sharded.py", "hsdp"], {}, []),
    ("fsdp2-offload", "`fully_shard` with parameters on the host, 4 GPUs", 4, [*RANKS, "sharded.py", "offload"], {}, []),
    ("fsdp2-compiled", "`fully_shard` of compiled blocks, 4 GPUs", 4, [*RANKS, "sharded.py", "compile"], {}, []),
    ("objects", "object collectives (`all_gather_object` and its like) under torchrun, 4 GPUs", 4, [*RANKS, "objects.py"], {}, []),
]

# What a program needs of versions, by (torch, transformers), and what is said where it is not so; notes.md says why.
NEEDS_VERSIONS = {
    "flexible": (lambda torch, transformers: torch >= (2, 5), "`flex_attention` came with torch 2.5"),
    **{name: (lambda torch, transformers: torch >= (2, 6), "`fully_shard` came with torch 2.6") for name in ["accelerate", "hsdp", "fsdp2-offload", "fsdp2-compiled"]},
    "compiled": (lambda torch, transformers: torch >= (2, 6) or transformers < (4, 38), "needs transformers before 4.38 on this torch"),
}
# Cards of programs that need another.
CARDS = {"float8": "h100-80gb"}
PACKAGES = ["transformers", "peft", "accelerate", "bitsandbytes", "liger_kernel", "lightning", "timm", "diffusers", "deepspeed",
            "torchvision", "trl", "torchao", "sentence_transformers", "ultralytics", "torch_geometric"]


def versions(python):
    """Returns the versions of torch and CUDA, the modules that are there, and the versions of packages."""
    code = ("import importlib.metadata as m, importlib.util as u, json, sys, torch;"
            "there = [n for n in sys.argv[1:] if u.find_spec(n)];"
            "print(json.dumps([torch.__version__, torch.version.cuda, there, {n: m.version(n) for n in there}]))")
    wanted = sorted({"transformers", *PACKAGES, *(module for program in PROGRAMS for module in program[5])})
    return json.loads(subprocess.run([python, "-c", code, *wanted], capture_output=True, text=True, check=True).stdout)


def numbers(version):
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:2])


def run(oomph, python, gpu, arguments, environment):
    """Returns oomph's own account of the run, and the end of what the program said."""
    arguments = [str(HERE / a) if a.endswith((".py", ".yaml")) else a for a in arguments]
    command = [oomph, "run", "--gpu", gpu, "--timeout", "9m", "--json", "--", python, *arguments]
    environment = dict(os.environ, TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", **environment)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    try:
        return json.loads(done.stdout), done.stderr
    except json.JSONDecodeError:
        return {"verdict": "no answer", "seconds": 0, "processes": [], "gpus": [], "warnings": []}, done.stderr


def mib(size):
    return f"{size / 2**20:,.0f}" if size else ""


class Page:
    """The table, a row for each program and version; the environments; the notes."""

    def __init__(self, path):
        self.rows, self.environments = {}, {}
        for line in path.read_text().splitlines() if path and path.exists() else []:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if line.startswith("| ") and len(cells) == 6 and cells[0] != "program":
                self.rows[cells[0], cells[1]] = line
            elif line.startswith("| ") and len(cells) == 3 and cells[0] != "torch":
                self.environments[cells[0], cells[1]] = cells[2]

    def ran_in(self, version, packages, names):
        """Remembers an environment: those programs ran there (None: all that no other of the same torch has)."""
        words = ", ".join(f"{name.replace('_', '-')} {packages[name]}" for name in PACKAGES if name in packages)
        if names is None or (version, words) not in self.environments:
            self.environments[version, words] = ", ".join(names) if names else "the rest"

    def notes(self):
        """The paragraphs of notes.md that there are rows for."""
        what, there = {program[0]: program[1] for program in PROGRAMS}, []
        for text in (HERE / "notes.md").read_text().strip().split("\n\n"):
            condition = re.match(r"\[(\S+) (\S+)\] ", text)
            if condition is None or any(key[0] == what[condition[1]] and key[1].startswith(condition[2] + ".") for key in self.rows):
                there.append(text[condition.end():] if condition else text)
        return there

    def text(self):
        order = [program[1] for program in PROGRAMS]
        known = [key for key in self.rows if key[0] in order]
        newest_first = lambda key: [-int(number) for number in re.findall(r"\d+", key[1].split("+")[0])]
        known.sort(key=lambda key: (newest_first(key), order.index(key[0])))
        environments = sorted(self.environments, key=lambda key: [-int(number) for number in re.findall(r"\d+", key[0].split("+")[0])])
        head = ["# Programs on the simulated GPU", "",
                "Unmodified programs of `tests/programs/`, run by `oomph run --gpu sim:a100-80gb` (4 of them where there are ranks; another card",
                "where the row says so), no GPU.",
                "Peaks are of the rank, or the card, that has the most: allocated by PyTorch's own count; of the card with the context",
                "and NCCL's buffers: allowances, 1 GiB for each NCCL communicator.",
                "Made by `tests/programs/run.py`; seconds are of the machine it ran on (imports are most of them).", "",
                "| program | torch | peak allocated, MiB | peak of the card, MiB | seconds | verdict |", "|---|---|---|---|---|---|"]
        below = ["", "## The environments", "", "| torch | with | programs |", "|---|---|---|",
                 *(f"| {version} | {words} | {self.environments[version, words]} |" for version, words in environments),
                 "", "## Beside the table", "", "\n\n".join(self.notes())]
        return "\n".join([*head, *(self.rows[key] for key in known), *below]) + "\n"


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--python", action="append", required=True), a.add_argument("--oomph", default=str(ROOT / "target/debug/oomph"))
    a.add_argument("--only"), a.add_argument("--out", type=pathlib.Path)
    a = a.parse_args()
    only = a.only.split(",") if a.only else [program[0] for program in PROGRAMS]
    page, failed = Page(a.out), 0
    for python in a.python:
        torch, cuda, there, packages = versions(python)
        version = f"{torch}, CUDA {cuda}"
        ran = []
        for name, what, gpus, arguments, environment, needs in PROGRAMS:
            if name not in only:
                continue
            if lacking := [module for module in needs if module not in there]:
                print(f"{name} was not run: no {', '.join(lacking)} for {version} here", flush=True)
                continue
            fits, words = NEEDS_VERSIONS.get(name, (None, None))
            if fits and not fits(numbers(torch), numbers(packages["transformers"])):
                page.rows.setdefault((what, version), f"| {what} | {version} | | | | not run: {words} |")
                continue
            ran.append(name)
            answer, said = run(a.oomph, python, f"sim:{CARDS.get(name, 'a100-80gb')}*{gpus}", arguments, environment)
            verdict = answer["verdict"]
            if verdict != "ran":
                failed += 1
                reason = next((l.strip()[:160] for l in reversed(said.splitlines()) if "Error" in l), "").replace("|", "/")
                verdict = f"{verdict}: {reason}"
            allocated = max((p.get("peak_allocated_bytes") or 0 for p in answer["processes"]), default=0)
            device = max((g["peak_bytes"] or 0 for g in answer["gpus"]), default=0)
            row = f"| {what} | {version} | {mib(allocated)} | {mib(device)} | {answer['seconds']:.0f} | {verdict} |"
            page.rows[what, version] = row
            print(row, flush=True)
            page.ran_in(version, packages, ran if a.only else None)
            if a.out:
                a.out.write_text(page.text())
    if a.out:
        a.out.write_text(page.text())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
