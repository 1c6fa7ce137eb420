#!/usr/bin/env python3
"""Draws random cases, asks the oracle and `oomph estimate`, and prints each case on which they differ.

    sweep.py --count 300 --seed 1 [--only llama,t5] [--oomph target/debug/oomph] [--gpu sim:h100-80gb] [--capacity]
             [--cases FILE.jsonl] [--out rows.jsonl]

Run it by the Python of an oracle's environment (../shared/oracle/README.md; NULLCUDA_SO for another than the first).
draw.py says what is drawn; --cases asks those of a file instead. The versions are those of the environment. --capacity
also runs the oracle on our `min_capacity_bytes`, where it has to run, and on 2 MiB less, where it has to fail. Each line
of --out is a case with the oracle's answer under `result` and ours under `ours`; a line that differs is a row to look at
with trace.py and compare.py, and a row of tests/data once it is mended. Exit code 1: something differs.
"""
import argparse, collections, contextlib, json, os, random, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import draw, switches

MODULES = "llama mistral qwen2 qwen3 gemma2 gemma3 phi3 gpt_neox olmo2 starcoder2 mixtral qwen3_moe gpt2 opt bert roberta xlm_roberta distilbert modernbert deberta_v2 t5 mt5 bart whisper vit swin convnext resnet".split()
SAME = 0.00005  # a difference below this share of the oracle's figure is not looked at


def flags(case, torch, transformers, gpu):
    """Returns the arguments of `oomph estimate` that say what a case says."""
    names = {"sgd": "sgd-momentum", "sgd-plain": "sgd"}
    out = ["--task", case["task"], "--micro-batch", case["micro_batch"], "--precision", case.get("precision", "fp32"),
           "--optimizer", names.get(case.get("optimizer", "adamw"), case.get("optimizer", "adamw")), "--accumulation", case.get("accum", 1),
           "--checkpointing", case.get("checkpointing", "none"), "--attention", case.get("attention", "sdpa"),
           "--attention-mask", case.get("attention_mask", "ones"), "--torch", torch, "--transformers", transformers]
    if case["task"] in ("speech-seq2seq", "image-classification"):
        at = out.index("--attention-mask")
        del out[at : at + 2]
    if case["task"] == "speech-seq2seq":
        out += ["--label-len", case["seq_len"]]
    elif case["task"] != "image-classification":
        out += ["--seq-len", case["seq_len"]]
    if case.get("label_len") and case["task"] != "speech-seq2seq": out += ["--label-len", case["label_len"]]
    if case.get("set_to_none") is False: out += ["--zero-grad", "zero"]
    if case.get("clip"): out += ["--clip", case["clip"]]
    if case.get("loss", "standard") != "standard": out += ["--loss", case["loss"]]
    if case.get("freeze"): out += ["--freeze", case["freeze"]]
    if case.get("quantize", "none") != "none": out += ["--quantize", case["quantize"]]
    if case.get("lora"):
        names = case["lora"]["target_modules"]
        text = f"r={case['lora']['r']},targets={names if isinstance(names, str) else '+'.join(names)}"
        if case["lora"].get("dropout"): text += f",dropout={case['lora']['dropout']}"
        out += ["--lora", text]
    if gpu: out += ["--gpu", gpu]
    return [str(o) for o in out]


def ours(oomph, case, versions, gpu, folder):
    config = os.path.join(folder, "config.json")
    with open(config, "w") as f:
        json.dump(case["config"], f)
    clean = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    run = [oomph, "estimate", config, *flags(case, *versions, gpu), "--json"]
    done = subprocess.run(run, capture_output=True, text=True, env=clean)
    if done.returncode != 0:
        return dict(refused=done.stderr.strip() or done.stdout.strip(), exit_code=done.returncode)
    said = json.loads(done.stdout)
    return {key: said[key] for key in ("peak_allocated_bytes", "peak_reserved_bytes", "min_capacity_bytes")}


def judge(case, theirs, mine):
    """Returns a word for the two answers, and the differences of peaks in percent."""
    if "error" in theirs:
        return ("neither" if "refused" in mine else "only ours"), None
    if "refused" in mine:
        return "refused", None
    pairs = [("peak_allocated_bytes", "peak_allocated"), ("peak_reserved_bytes", "peak_reserved")]
    errors = [100 * (mine[a] / theirs[b] - 1) for a, b in pairs]
    return ("same" if all(abs(e) <= 100 * SAME for e in errors) else "DIFFERENT"), errors


@contextlib.contextmanager
def no_device_asked():
    """Answers for the devices while modules are imported: a process that has asked CUDA may not fork."""
    import torch
    asked, torch._C._cuda_getDeviceCount = torch._C._cuda_getDeviceCount, lambda: 1
    yield
    torch._C._cuda_getDeviceCount = asked


def warm():
    """Imports once what each fork would import."""
    import importlib
    for name in MODULES:
        try: importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        except ImportError: pass


def lacks(case):
    """Whether the environment has no package that a case asks for."""
    from importlib.util import find_spec
    wanted = {"liger_kernel": case.get("loss") == "fused", "peft": bool(case.get("lora")),
              "bitsandbytes": "8bit" in case.get("optimizer", "") or case.get("quantize", "none") != "none"}
    return any(asked and not find_spec(name) for name, asked in wanted.items())


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--count", type=int, default=100), a.add_argument("--seed", type=int, default=1)
    a.add_argument("--only"), a.add_argument("--oomph", default="target/debug/oomph"), a.add_argument("--gpu")
    a.add_argument("--capacity", action="store_true"), a.add_argument("--cases"), a.add_argument("--out")
    a = a.parse_args()
    os.environ["PYTHONHASHSEED"] = "0"  # Gemma 3 makes tables in the order of a set
    with no_device_asked():
        oracle = switches.load()
        import torch, transformers, trace
        warm()
    versions = [".".join(v.split(".")[:2]) for v in (torch.__version__, transformers.__version__)]
    rng, only = random.Random(a.seed), a.only.split(",") if a.only else draw.ALL
    cases = [json.loads(line) for line in open(a.cases) if line.strip()] if a.cases else \
        [draw.case(rng, only) | {"id": f"s{a.seed}-{i}"} for i in range(a.count)]
    words, reasons, out = collections.Counter(), collections.Counter(), open(a.out, "w") if a.out else None

    def child(case, capacity=None):
        if case["config"]["model_type"] == "qwen3_moe": trace.balanced_qwen3_experts()
        return oracle.child(case, capacity)

    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            if lacks(case): continue
            full = {**oracle.DEFAULTS, **{k: v for k, v in case.items() if k not in ("result", "ours")}}
            mine = ours(a.oomph, case, versions, a.gpu, folder)
            theirs = oracle.forked(child, full)
            word, errors = judge(case, theirs, mine)
            if word in ("same", "DIFFERENT") and a.capacity and mine["min_capacity_bytes"]:
                at = mine["min_capacity_bytes"]
                fits = [oracle.forked(child, full, at), oracle.forked(child, full, at - (2 << 20))]
                if fits != [True, False]: word, errors = "DIFFERENT", errors + [f"at min_capacity, and 2 MiB below: {fits}"]
            words[word] += 1
            if word == "DIFFERENT":
                print(f"{case['id']}: {errors} {json.dumps(case)}", flush=True)
            elif word == "only ours":
                errors = theirs["error"].strip().splitlines()[-1][:300]
                print(f"{case['id']}: the oracle: {errors} {json.dumps(case)}", flush=True)
            elif word == "refused":
                reasons[mine["refused"].splitlines()[0]] += 1
                if mine["exit_code"] != 2: print(f"{case['id']}: exit {mine['exit_code']}: {mine['refused']} {json.dumps(case)}", flush=True)
            if out: print(json.dumps(case | dict(result=theirs, ours=mine)), file=out, flush=True)
    print(f"torch {versions[0]}, transformers {versions[1]}: {dict(words)}")
    for reason, count in reasons.most_common(): print(f"refused {count}: {reason}")
    sys.exit(1 if words["DIFFERENT"] else 0)


if __name__ == "__main__":
    main()
