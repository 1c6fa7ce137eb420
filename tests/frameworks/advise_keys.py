"""Asks transformers, peft, bitsandbytes and Liger whether what `oomph advise` says in their words is
theirs, and does what is said.

Opt-in: needs an environment with torch, transformers, peft, bitsandbytes, liger-kernel and, for one
row, trl; on a CPU. Prints a Markdown table, which docs/frameworks.md holds:

    cargo build && VIRTUAL_ENV=... python tests/frameworks/advise_keys.py target/debug/oomph

What is not installed is a row that says so, never a row that passes.
"""

import collections
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import types

# The folder of this script has a deepspeed.py, which is not the package that others look for.
sys.path.pop(0)

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, TrainingArguments

QUESTIONS = [
    "llama-3.2-1b --gpu sim:2GiB --micro-batch 4 --attention eager --precision fp32",
    "llama-3.2-1b --gpu sim:a10 --checkpointing full --optimizer adamw-8bit-hf --precision bf16",
    "llama-3.2-1b --gpu sim:a10 --lora r=8,dropout=0.1 --quantize nf4 --seq-len 512",
    "gpt2 --gpu sim:t4 --precision fp16 --optimizer adafactor --loss standard",
    "gpt2 --gpu sim:t4 --optimizer paged-adamw-8bit-hf --accumulation 4",
]

TINY = LlamaConfig(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=256,
    architectures=["LlamaForCausalLM"],
)


def said(binary):
    """Every expression of every answer, with the flags it stands for."""
    all_ = {}
    for question in QUESTIONS:
        done = subprocess.run([binary, "advise", *question.split(), "--json"], capture_output=True, text=True)
        assert done.returncode in (0, 3), done.stderr
        answer = json.loads(done.stdout)
        rows = answer["to_fit"] + answer["one_change"] + answer["room_for"]
        for change in (change for row in rows for change in row["changes"]):
            all_[change["flags"]] = change["transformers"]
    return all_


class Saved:
    """A model saved in bfloat16, as those of the hub are."""

    def __init__(self, folder):
        self.folder = folder
        transformers.LlamaForCausalLM(TINY).to(torch.bfloat16).save_pretrained(folder)

    def from_pretrained(self, _ellipsis, **keywords):
        return AutoModelForCausalLM.from_pretrained(self.folder, **keywords)


def arguments(**keywords):
    # A CPU has no autocast in 16 bits for training: the names are looked at, the switches left off.
    names = set(TrainingArguments.__dataclass_fields__)
    assert set(keywords) <= names, set(keywords) - names
    off = {key: False for key in ("bf16", "fp16") if key in keywords}
    return TrainingArguments(output_dir=tempfile.mkdtemp(), use_cpu=True, **{**keywords, **off})


def look(flags, expression, saved):
    """Evaluates one expression and looks at what came of it."""
    made = {}

    def both(*models, **keywords):
        made["model"] = models[0] if models else None
        made["arguments"] = arguments(**keywords)

    names = {
        "both": both,
        "from_pretrained": saved.from_pretrained,
        "torch": torch,
        "BitsAndBytesConfig": transformers.BitsAndBytesConfig,
    }
    if "peft." in expression:
        names["peft"] = __import__("peft")
    if "trl." in expression:
        import trl

        on_cpu = {"output_dir": tempfile.mkdtemp(), "use_cpu": True, "bf16": False}
        names["trl"] = types.SimpleNamespace(SFTConfig=lambda **said: trl.SFTConfig(**said, **on_cpu))
    eval(f"both({expression})", names)  # noqa: S307: our own words
    model, args = made["model"], made["arguments"]
    flag, value = flags.split(" ")[:2]
    if flag == "--precision":
        want = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(value, torch.float32)
        assert model.dtype == want, model.dtype
        return f"weights in {str(model.dtype).removeprefix('torch.')}"
    if flag == "--attention":
        assert model.config._attn_implementation == value, model.config._attn_implementation
        return f"`{value}`"
    if flag == "--lora":
        from peft import get_peft_model

        adapted = get_peft_model(saved.from_pretrained(...), model)
        trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
        assert len(trained) == 2 * 7 * TINY.num_hidden_layers, trained
        assert model.lora_dropout == (float(flags.split("dropout=")[1]) if "dropout" in flags else 0.0)
        return f"{len(trained) // 2} adapters on {TINY.num_hidden_layers} layers, none on the head"
    if flag == "--quantize":
        import bitsandbytes

        kind = {"nf4": bitsandbytes.nn.Linear4bit, "int8": bitsandbytes.nn.Linear8bitLt}[value]
        many = sum(isinstance(module, kind) for module in model.modules())
        assert many == 7 * TINY.num_hidden_layers and not isinstance(model.lm_head, kind), many
        return f"{many} {kind.__name__}, all linear layers but the head"
    if flag == "--optimizer":
        from transformers import Trainer

        model = saved.from_pretrained(...)
        kind, keywords = Trainer.get_optimizer_cls_and_kwargs(args, model)
        name = f"{kind.__module__.split('.')[0]} {kind.__name__}"
        told = {k: v for k, v in keywords.items() if k in ("fused", "is_paged", "optim_bits", "momentum")}
        want = {
            "adamw": ("torch AdamW", {}),
            "adamw-fused": ("torch AdamW", {"fused": True}),
            "adamw-8bit-hf": ("bitsandbytes AdamW", {"optim_bits": 8}),
            "paged-adamw-8bit-hf": ("bitsandbytes AdamW", {"is_paged": True, "optim_bits": 8}),
            "adafactor": ("transformers Adafactor", {}),
            "sgd": ("torch SGD", {}),
            "sgd-momentum": ("torch SGD", {"momentum": 0.9}),
        }[value]
        told = {k: v for k, v in told.items() if not (k == "is_paged" and v is False)}
        assert (name, told) == want, (name, told)
        return f"{name} {told or ''}".strip()
    if flag == "--checkpointing":
        from transformers import Trainer

        model = saved.from_pretrained(...)
        trainer = Trainer(model=model, args=args, train_dataset=[{}])
        on = [getattr(layer, "gradient_checkpointing", False) for layer in model.model.layers]
        if args.gradient_checkpointing or getattr(args, "activation_checkpointing", False):
            options = dict(getattr(args, "activation_checkpointing_kwargs", None) or {})
            every = options.pop("every_n_layers", 1)
            more = {"every_n_layers": every} if every != 1 else {}
            model.gradient_checkpointing_enable(**more) if not more else model.activation_checkpointing_enable(**more)
            # Up to 4.5x the decoder has the switch for all of its layers.
            whole = getattr(model.model, "gradient_checkpointing", False)
            on = [getattr(layer, "gradient_checkpointing", whole) for layer in model.model.layers]
        del trainer
        want = {"none": 0, "full": 4, "every=2": 2}[value]
        assert sum(on) == want, on
        return f"{sum(on)} of {len(on)} layers recomputed"
    if flag == "--loss":
        if value == "standard":
            assert args.use_liger_kernel is False
            return "Liger off"
        options = getattr(args, "liger_kernel_config", None)
        if options is None:
            return "Liger on, and its other kernels: this version has no switch"
        import inspect

        from liger_kernel.transformers.monkey_patch import apply_liger_kernel_to_llama

        known = inspect.signature(apply_liger_kernel_to_llama).parameters
        switches = {k for k, p in known.items() if p.default in (True, False)}
        on = {k for k in switches if options.get(k, known[k].default)}
        assert on == {"fused_linear_cross_entropy"}, on
        return "Liger's fused loss on, its other kernels off"
    if flag == "--micro-batch":
        size, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
        assert flags in (f"--micro-batch {size} --accumulation {steps}", f"--micro-batch {size}"), (size, steps)
        nouns = ("sample" if size == 1 else "samples", "micro-step" if steps == 1 else "micro-steps")
        return f"{size} {nouns[0]}, {steps} {nouns[1]}"
    if flag == "--seq-len":
        assert model.max_length == int(value), model
        return f"SFTConfig.max_length {model.max_length}"
    raise AssertionError(f"nothing known of {flags}")


def versions():
    names = ("torch", "transformers", "peft", "bitsandbytes", "liger-kernel", "trl")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names if installed(name))


def installed(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main(binary):
    transformers.logging.set_verbosity_error()
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        saved = Saved(folder)
        print(f"With {versions()}:\n\n| change | in Python | what came of it |\n|---|---|---|")
        for flags, expression in sorted(said(binary).items()):
            if expression is None:
                counts["without a word"] += 1
                continue
            try:
                came, kind = look(flags, expression, saved), "taken"
            except (ImportError, ModuleNotFoundError) as error:
                came, kind = f"not looked at: {str(error).splitlines()[0]}", "not looked at"
            except Exception as error:  # noqa: BLE001: every failure is a row
                first = str(error).splitlines()[0]
                came, kind = f"**refused**: {type(error).__name__}: {first}", "refused"
                if first.startswith("CUDA is required"):
                    came, kind = "not looked at: bitsandbytes wants a GPU", "not looked at"
            counts[kind] += 1
            print(f"| `{flags}` | `{expression}` | {came} |")
    print("\n" + ", ".join(f"{many} {kind}" for kind, many in counts.items()) + ".")
    return 1 if counts["refused"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
