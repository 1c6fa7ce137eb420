"""Holds what `oomph plan --emit` writes against frameworks' own code, without installing them.

Opt-in: needs the network for pip, and neither torch nor a GPU. Packages are downloaded at a pinned
version without their dependencies (some 10 MB), and the one file that knows the batch is taken out:

- litgpt's `TrainArgs` and Megatron-LM's calculators are imported and run;
- Composer's (llm-foundry's), Axolotl's, LLaMA-Factory's and torchtune's keys are looked up in their
  own declarations, which their parsers refuse others against.

    cargo build && python3 tests/frameworks/sources.py target/debug/oomph

Prints a Markdown table by version, which docs/frameworks.md holds. What cannot be downloaded is a row that
says so, never a row that passes.
"""

import ast
import importlib.util
import json
import logging
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile

from accept import PLANS, oomph

RAMPS = [
    "gpt2 --effective-batch 1024 --ramp-up start=256,increment=96,samples=100000 --gpu sim:t4*4 --seq-len 256",
    "gpt2 --effective-batch 1024 --ramp-up start=16,increment=8,samples=300000 --gpu sim:t4*2 --seq-len 128",
    "gpt2 --effective-batch 264 --ramp-up start=88,increment=88,samples=999 --gpu sim:l4*4 --seq-len 512",
]


def module(folder, path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, folder / path)
    made = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up by name.
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def fields(folder, *paths):
    """Names that the classes of these files declare with a type."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse((folder / path).read_text())):
            if isinstance(node, ast.ClassDef):
                found |= {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
    return found


def flags(text):
    words = shlex.split(text)
    pairs, key = {}, None
    for word in words:
        if word.startswith("--"):
            key = word[2:]
            pairs[key] = []
        else:
            pairs[key].append(word)
    return {key: values[0] if len(values) == 1 else values for key, values in pairs.items()}


def yaml_keys(text):
    return dict(re.findall(r"^([\w.]+): (.*)$", text, re.M))


def litgpt(folder, text, plan):
    args = module(folder, "litgpt/args.py")
    said = flags(text)
    train = {key.removeprefix("train."): int(value) for key, value in said.items() if key.startswith("train.")}
    args = args.TrainArgs(**train)
    steps = args.gradient_accumulation_iters(int(said["devices"]), int(said.get("num_nodes", 1)))
    assert (args.micro_batch_size, steps) == (plan["micro_batch"], plan["accumulation_steps"]), steps
    assert args.max_seq_length == plan["estimate"]["setup"]["seq_len"]


def calculator(folder):
    logging.disable(logging.CRITICAL)
    return module(folder, "megatron/core/num_microbatches_calculator.py")


def megatron(folder, text, plan):
    said = flags(text)
    calculators = calculator(folder)
    micro, replicas = int(said["micro-batch-size"]), plan["data_parallel_size"]
    common = dict(micro_batch_size=micro, data_parallel_size=replicas, decrease_batch_size_if_needed=False, rank=1)
    if "step-batch-size-schedule" in said:
        made = calculators.StepBatchsizeNumMicroBatchesCalculator(
            schedule=said["step-batch-size-schedule"], seq_length=int(said["seq-length"]), **common
        )
    elif "rampup-batch-size" in said:
        start, increment, samples = map(int, said["rampup-batch-size"])
        made = calculators.RampupBatchsizeNumMicroBatchesCalculator(
            global_batch_size=int(said["global-batch-size"]),
            start_global_batch_size=start,
            batch_size_increment=increment,
            ramup_samples=samples,
            **common,
        )
    else:
        made = calculators.ConstantNumMicroBatchesCalculator(global_batch_size=int(said["global-batch-size"]), **common)
    assert made.get_micro_batch_size() == plan["micro_batch"]
    stages = (plan["schedule"] or {"stages": []})["stages"]
    for stage, after in zip(stages, [*stages[1:], None]):
        # The last sample before the next stage, and the first of this one but for a float's rounding.
        for consumed in (stage["from_sample"] + 1, after["from_sample"] - 1 if after else stage["from_sample"] + 10**6):
            made.update(consumed, consistency_check=True)
            assert made.get_current_global_batch_size() == stage["target_effective_batch"], (consumed, stage)
            assert made.get() == stage["accumulation_steps_of_one"], (consumed, stage)
    made.update(10**12, consistency_check=True)
    assert made.get() == plan["accumulation_steps"], made.get()


def declared(*paths):
    def check(folder, text, plan):
        known = fields(folder, *paths)
        keys = yaml_keys(text)
        unknown = [key for key in keys if key not in known]
        assert keys and not unknown, f"{unknown} are not declared"

    return check


# Beside their own, these are fields of transformers' TrainingArguments, which accept.py instantiates.
TRAINING_ARGUMENTS = {"per_device_train_batch_size", "gradient_accumulation_steps", "bf16", "fp16"}


def llamafactory(folder, text, plan):
    files = ["data_args", "finetuning_args", "model_args"]
    known = fields(folder, *[f"llamafactory/hparams/{name}.py" for name in files]) | TRAINING_ARGUMENTS
    unknown = [key for key in yaml_keys(text) if key not in known]
    assert not unknown, f"{unknown} are not declared"


def torchtune(folder, text, plan):
    recipe = (folder / "recipes/configs/llama3_1/8B_full.yaml").read_text()
    said = dict(word.split("=", 1) for word in shlex.split(text))
    for key in said:
        *above, leaf = key.split(".")
        indent = "  " * len(above)
        assert re.search(rf"^{indent}{leaf}:", recipe, re.M), f"{key} is in no recipe"
        assert not above or re.search(rf"^{above[0]}:", recipe, re.M), key
    assert (said["batch_size"], said["gradient_accumulation_steps"]) == (
        str(plan["micro_batch"]),
        str(plan["accumulation_steps"]),
    )


CHECKS = [
    ("litgpt", "litgpt==0.5.13", litgpt, PLANS),
    ("megatron", "megatron-core==0.19.0", megatron, PLANS + RAMPS),
    ("megatron@0.17", "megatron-core==0.17.0", megatron, PLANS + RAMPS),
    ("composer", "llm-foundry==0.22.0", declared("llmfoundry/utils/config_utils.py"), PLANS),
    (
        "axolotl",
        "axolotl==0.21.0",
        declared("axolotl/utils/schemas/config.py", "axolotl/utils/schemas/training.py"),
        PLANS,
    ),
    ("llamafactory", "llamafactory==0.9.5", llamafactory, PLANS),
    ("torchtune", "torchtune==0.6.1", torchtune, PLANS),
]


def download(package, folder):
    # Wheels of a Python that all of them have; nothing of them is installed.
    options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.12", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", *options, package]
    subprocess.run(command, check=True, capture_output=True, text=True)
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    print("| format | package | plans taken |\n|---|---|---|")
    failed = False
    for name, package, check, plans in CHECKS:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            try:
                download(package, folder)
            except subprocess.CalledProcessError as error:
                failed = True
                print(f"| {name} | {package} | not downloaded: {error.stderr.strip().splitlines()[-1]} |")
                continue
            taken = 0
            for plan in plans:
                answer = json.loads(oomph(binary, plan, "--json"))
                try:
                    check(folder, oomph(binary, plan, "--emit", name), answer)
                    taken += 1
                except Exception as error:
                    failed = True
                    print(f"{name}: {plan}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
        print(f"| {name} | {package} | {taken} of {len(plans)} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
