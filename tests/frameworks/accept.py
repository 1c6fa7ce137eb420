"""Asks each framework's own classes whether they take what `oomph plan --emit` writes.

Opt-in: needs an environment with torch, transformers, accelerate, trl, lightning and torchtitan; on
a CPU. Prints a Markdown table by version, which docs/frameworks.md holds:

    cargo build && python tests/frameworks/accept.py target/debug/oomph

What is not installed is a row that says so, never a row that passes.
"""

import importlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

PLANS = [
    "gpt2 --effective-batch 264 --gpu sim:l4*4 --seq-len 512",
    "gpt2 --effective-batch 96 --gpu sim:t4 --seq-len 256 --precision fp32",
    "gpt2 --effective-batch 64 --gpu sim:l4*2 --precision bf16 --checkpointing full --seq-len 128",
    "llama-3.2-1b --effective-tokens 262144 --gpu sim:h100-80gb*8 --seq-len 2048 --precision bf16",
    "gpt2 --effective-batch 250 --gpu sim:l4*4 --seq-len 512 --precision amp-fp16",
]


def oomph(binary, plan, *more):
    command = [binary, "plan", *plan.split(), *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_batch(plan, micro, steps):
    want = (plan["micro_batch"], plan["accumulation_steps"])
    assert (micro, steps) == want, f"{(micro, steps)} instead of {want}"


def hf_args(text, plan):
    from transformers import HfArgumentParser, TrainingArguments

    words = [*shlex.split(text), "--output_dir", "out", "--use_cpu", "true"]
    words = ["false" if at and words[at - 1] in ("--bf16", "--fp16") else word for at, word in enumerate(words)]
    (args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(words)
    is_batch(plan, args.per_device_train_batch_size, args.gradient_accumulation_steps)


def hf_json(text, plan):
    from transformers import HfArgumentParser, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "args.json")
        # A CPU has no autocast in 16 bits for training; the keys are the same.
        keys = {**json.loads(text), "output_dir": "out", "use_cpu": True}
        keys.update({key: False for key in ("bf16", "fp16") if key in keys})
        path.write_text(json.dumps(keys))
        (args,) = HfArgumentParser(TrainingArguments).parse_json_file(str(path))
    is_batch(plan, args.per_device_train_batch_size, args.gradient_accumulation_steps)
    full = plan["estimate"]["setup"]["checkpointing"] == "full"
    assert bool(args.gradient_checkpointing) == full, args.gradient_checkpointing


def trl(text, plan):
    import yaml
    from trl import SFTConfig

    keys = {**yaml.safe_load(text), "output_dir": "out", "use_cpu": True}
    keys.update({key: False for key in ("bf16", "fp16") if key in keys})
    args = SFTConfig(**keys)
    is_batch(plan, args.per_device_train_batch_size, args.gradient_accumulation_steps)
    assert args.max_length == plan["estimate"]["setup"]["seq_len"], args.max_length
    full = plan["estimate"]["setup"]["checkpointing"] == "full"
    assert bool(args.gradient_checkpointing) == full, args.gradient_checkpointing


def accelerate(text, plan):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    lines = [line.split("=", 1) for line in text.splitlines() if not line.startswith("#")]
    variables = dict(lines, ACCELERATE_USE_CPU="true")
    variables["ACCELERATE_MIXED_PRECISION"] = "no"
    os.environ.update(variables)
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    steps = Accelerator().gradient_accumulation_steps
    is_batch(plan, plan["micro_batch"], steps)


def lightning(text, plan):
    import lightning as L

    lines = text.replace('"16-mixed"', '"bf16-mixed"').replace('"16-true"', '"32-true"')
    devices = f"devices={plan['data_parallel_size']}"
    assert devices in lines, lines
    # One process here: the number of devices is read above.
    lines = lines.replace(devices, 'devices=1, accelerator="cpu", logger=False, barebones=True')
    space = {"L": L}
    exec(lines, space)
    is_batch(plan, space["batch_size"], space["trainer"].accumulate_grad_batches)


def torchtitan(text, plan):
    """Its configuration's own fields, filled by the flags' names."""
    from torchtitan.config import configs

    flags = shlex.split(text)
    pairs = {key.removeprefix("--training."): int(value) for key, value in zip(flags[::2], flags[1::2])}
    training = configs.TrainingConfig(**pairs)
    once = training.local_batch_size * plan["data_parallel_size"]
    assert training.global_batch_size % once == 0, training
    is_batch(plan, training.local_batch_size, training.global_batch_size // once)


CHECKS = [
    ("hf-args", "transformers", hf_args),
    ("hf-json", "transformers", hf_json),
    ("trl", "trl", trl),
    ("accelerate", "accelerate", accelerate),
    ("lightning", "lightning", lightning),
    ("torchtitan@0.3", "torchtitan", torchtitan),
]


def version(package):
    try:
        return getattr(importlib.import_module(package), "__version__", "unknown")
    except ImportError as error:
        return f"not installed: {error}"


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    print("| format | package | version | plans taken |\n|---|---|---|---|")
    failed = False
    for name, package, check in CHECKS:
        installed, taken = version(package), 0
        for plan in PLANS:
            answer = json.loads(oomph(binary, plan, "--json"))
            try:
                check(oomph(binary, plan, "--emit", name), answer)
                taken += 1
            except Exception as error:
                failed = True
                print(f"{name}: {plan}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
        print(f"| {name} | {package} | {installed} | {taken} of {len(PLANS)} |")
    sys.exit(failed)


if __name__ == "__main__":
    main()
