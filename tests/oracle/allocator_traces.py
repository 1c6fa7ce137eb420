#!/usr/bin/env python3
"""Records what real PyTorch asks of its caching allocator, and what the allocator answers.

    V=~/.cache/oomph-oracle; ORACLE=/path/to/oracle $V/bin/python tests/oracle/allocator_traces.py NAME...
    ... allocator_traces.py --at 1234567168,1236664320 NAME   # adds runs at these capacities to NAME.trace
    ... allocator_traces.py --expandable NAME...              # adds runs with expandable segments to NAME.trace

Needs the peak-memory oracle (oracle.py and nullcuda.so: stock PyTorch on a CUDA runtime that hands out address space only) and no
GPU. Writes tests/data/allocator/NAME.trace, one text file a case:

    case {json}                 what was trained, as oracle.py takes it
    versions torch ... transformers ...
    unlimited PEAK_ALLOCATED PEAK_RESERVED DEVICE_ALLOCS PEAK_PHASE
    run CAPACITY ran|oom ALLOCATIONS PEAK_ALLOCATED PEAK_RESERVED RETRIES DEVICE_ALLOCS DEVICE_FREES
    expandable TOTAL CAPACITY ran|oom ...
    events
    TOKENS

`expandable` is as `run` under expandable_segments:True, on a device of TOTAL bytes of which another program holds all but CAPACITY (these
run on the simulated GPU: the oracle's own driver maps no memory). `unlimited` and `run` are torch.cuda.memory_stats() of real runs: on an endless device, and on one of CAPACITY bytes, where ALLOCATIONS
counts the allocations that were granted (all of them, or those before torch.OutOfMemoryError). PEAK_PHASE is where
max_memory_allocated first had its last value.

Tokens, separated by spaces and line breaks: `+N` asks for N bytes; `-K` frees the K-th youngest block ever born (1: the last born);
`load`, `batch`, `forward`, `backward`, `optimizer`, `zero_grad` begin a phase; `@B:N` repeats N tokens, starting B tokens back
(the copy may run into itself).
"""
import ctypes, itertools, json, os, sys

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(os.path.dirname(HERE), "data", "allocator")
sys.path.insert(0, os.environ.get("ORACLE", "/work/shared/oracle"))
from on_virtual_gpu import leave, move_here

if "--expandable" in sys.argv:
    move_here(PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True")
import oracle  # restarts this script under LD_PRELOAD
import torch, transformers

MIB = 1 << 20
CARD = 141 << 30
GPT2 = dict(model_type="gpt2", n_embd=768, n_layer=12, n_head=12, n_positions=1024, vocab_size=50257)
LLAMA_1B = dict(model_type="llama", hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
                head_dim=64, vocab_size=128256, max_position_embeddings=131072, tie_word_embeddings=True)
LLAMA_8B = dict(model_type="llama", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
                vocab_size=128256, max_position_embeddings=131072, tie_word_embeddings=False)
TINYLLAMA = dict(model_type="llama", hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
                 vocab_size=32000, max_position_embeddings=2048, tie_word_embeddings=False)
SMALL_LLAMA = dict(model_type="llama", hidden_size=512, intermediate_size=1408, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
                   vocab_size=32000, max_position_embeddings=2048, tie_word_embeddings=False)
QWEN = dict(model_type="qwen2", hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
            vocab_size=151936, max_position_embeddings=32768, tie_word_embeddings=True)
BERT = dict(model_type="bert", hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, vocab_size=30522, max_position_embeddings=512)
T5 = dict(model_type="t5", d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8, vocab_size=32128, feed_forward_proj="relu",
          decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
MIXTRAL = dict(model_type="mixtral", hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
               num_local_experts=8, num_experts_per_tok=2, vocab_size=32000, max_position_embeddings=4096)
QV = dict(r=8, target_modules=["q_proj", "v_proj"])

CASES = {
    "gpt2-toy-fp32": dict(config=dict(GPT2, n_embd=128, n_layer=2, n_head=4, vocab_size=1000), micro_batch=4, seq_len=64),
    "gpt2-small-fp32-checkpointed-accum2": dict(config=GPT2, micro_batch=4, seq_len=256, checkpointing="full", accum=2),
    "gpt2-small-fp16-amp-sgd-padded": dict(config=GPT2, micro_batch=2, seq_len=512, precision="amp-fp16", optimizer="sgd", attention_mask="padded"),
    "gpt2-small-bf16": dict(config=GPT2, micro_batch=2, seq_len=256, precision="bf16"),
    "llama-small-bf16": dict(config=SMALL_LLAMA, micro_batch=2, seq_len=512, precision="bf16"),
    "llama-small-qlora-nf4": dict(config=SMALL_LLAMA, micro_batch=4, seq_len=256, precision="bf16", quantize="nf4", lora=QV),
    "llama-small-int8-lora-adamw8bit": dict(config=SMALL_LLAMA, micro_batch=2, seq_len=256, precision="bf16", quantize="int8", lora=QV, optimizer="adamw-8bit"),
    "llama-1b-bf16": dict(config=LLAMA_1B, micro_batch=1, seq_len=2048, precision="bf16"),
    "llama-1b-bf16-checkpointed-accum2-loop": dict(config=LLAMA_1B, micro_batch=2, seq_len=512, precision="bf16", checkpointing="full", accum=2, optimizer="adamw-loop"),
    "llama-8b-bf16": dict(config=LLAMA_8B, micro_batch=1, seq_len=2048, precision="bf16"),
    "tinyllama-fp32-checkpointed": dict(config=TINYLLAMA, micro_batch=8, seq_len=2048, checkpointing="full"),
    "qwen2-0.5b-bf16-amp-adafactor": dict(config=QWEN, micro_batch=2, seq_len=128, precision="amp-bf16", optimizer="adafactor"),
    "qwen2-0.5b-fp16-amp": dict(config=QWEN, micro_batch=8, seq_len=2048, precision="amp-fp16"),
    "bert-base-bf16-amp-eager": dict(config=BERT, task="masked-lm", micro_batch=4, seq_len=512, precision="amp-bf16", attention="eager"),
    "bert-base-fp32-fused": dict(config=BERT, task="masked-lm", micro_batch=1, seq_len=512, optimizer="adamw-fused"),
    "t5-small-fp32-eager": dict(config=T5, task="seq2seq-lm", micro_batch=16, seq_len=128, attention="eager"),
    "mixtral-small-fp32": dict(config=MIXTRAL, micro_batch=4, seq_len=512),
}


def stats():
    s = torch.cuda.memory_stats()
    return dict(allocations=s["allocation.all.allocated"], peak_allocated=s["allocated_bytes.all.peak"], peak_reserved=s["reserved_bytes.all.peak"],
                retries=s["num_alloc_retries"], device_allocs=s["num_device_alloc"], device_frees=s["num_device_free"])


def at_capacity(case, capacity, total=None):
    null = ctypes.CDLL(oracle.SO)
    null.nullcuda_set_bool(case["attention_mask"] != "padded")
    leave(null, total or capacity, capacity)
    try:
        oracle.train(case, lambda _: None)
        verdict = "ran"
    except torch.OutOfMemoryError:
        verdict = "oom"
    return dict(verdict=verdict, **stats())


def recorded(case):
    """Both steps on an endless device: the allocator's own history as tokens, and its statistics."""
    ctypes.CDLL(oracle.SO).nullcuda_set_bool(case["attention_mask"] != "padded")
    marks, highest, peak_phase = [], 0, None  # marks: (allocations and frees so far, the phase that begins there)
    def mark_phase(name):
        nonlocal highest, peak_phase
        s = torch.cuda.memory_stats() if torch.cuda.is_initialized() else {}
        if s.get("allocated_bytes.all.peak", 0) > highest:
            highest, peak_phase = s["allocated_bytes.all.peak"], marks[-1][1]
        marks.append((s.get("allocation.all.allocated", 0) + s.get("allocation.all.freed", 0), dict(optim="optimizer").get(name, name)))
    torch.cuda.memory._record_memory_history(context=None, max_entries=10**7)
    oracle.train(case, mark_phase)
    result = stats()
    trace = torch.cuda.memory._snapshot()["device_traces"][0]
    trace = [e for e in trace if e["action"] in ("alloc", "free_completed")][:marks[-1][0]]
    tokens, live, births, mark = [], {}, 0, 0
    for i, e in enumerate(trace):
        while marks[mark][0] <= i:
            tokens.append(marks[mark][1]); mark += 1
        if e["action"] == "alloc":
            live[e["addr"]] = births
            births += 1
            tokens.append(f"+{e['size']}")
        else:
            tokens.append(f"-{births - live.pop(e['addr'])}")
    return dict(result, tokens=in_one_order(tokens), peak_phase=peak_phase)


def in_one_order(tokens):
    """Frees that follow each other, youngest first: autocast drops its weight copies in an order that differs from run to run, and the
    allocator's state afterwards does not depend on it."""
    is_free = lambda t: t.startswith("-")
    return [t for free, run in itertools.groupby(tokens, is_free) for t in (sorted(run, key=lambda t: int(t[1:])) if free else run)]


def packed(tokens):
    """Greedy LZ77 over tokens: layers repeat each other."""
    out, seen, i = [], {}, 0
    while i < len(tokens):
        best, back = 0, 0
        for j in seen.get(tuple(tokens[i:i + 4]), [])[-256:]:
            n = 0
            while i + n < len(tokens) and tokens[j + n] == tokens[i + n]: n += 1
            if n >= best: best, back = n, i - j
        step = best if best >= 4 else 1
        out.append(f"@{back}:{best}" if best >= 4 else tokens[i])
        for k in range(i, i + step): seen.setdefault(tuple(tokens[k:k + 4]), []).append(k)
        i += step
    lines, line = [], ""
    for t in out:
        if len(line) + len(t) > 118: lines.append(line); line = ""
        line = f"{line} {t}" if line else t
    return "\n".join(lines + [line])


def run_line(case, capacity, total=None):
    r = oracle.forked(at_capacity, case, capacity, total)
    assert "verdict" in r, r
    said = " ".join(str(r[k]) for k in ("verdict", "allocations", "peak_allocated", "peak_reserved", "retries", "device_allocs", "device_frees"))
    return f"expandable {total} {capacity} {said}" if total else f"run {capacity} {said}"


def write(name, head, runs, events):
    runs = sorted(set(runs), key=lambda r: (r.split()[0] == "run", [int(n) for n in r.split()[1:3] if n.isdigit()]), reverse=True)
    with open(os.path.join(OUT, name + ".trace"), "w") as out:
        out.write("\n".join(head + runs + ["events", events]) + "\n")


def record(name):
    case = {**oracle.DEFAULTS, **CASES[name]}
    r = oracle.forked(recorded, case)
    assert "tokens" in r, r
    again = oracle.forked(recorded, case)
    if r != again:
        at = next((i for i, (x, y) in enumerate(zip(r["tokens"], again["tokens"])) if x != y), None)
        raise SystemExit(f"{name}: two runs differ at token {at}: {r['tokens'][at - 3:at + 5]} {again['tokens'][at - 3:at + 5]}")
    head = ["case " + json.dumps(case), f"versions torch {torch.__version__} transformers {transformers.__version__}",
            f"unlimited {r['peak_allocated']} {r['peak_reserved']} {r['device_allocs']} {r['peak_phase']}"]
    low, high = r["peak_allocated"] // (2 * MIB), r["peak_reserved"] // (2 * MIB)
    # exactly enough, just under, and points down to what the tensors alone take
    capacities = sorted({high, high - 1, low} | {low + (high - low) * i // 8 for i in range(1, 8)}, reverse=True)
    write(name, head, [run_line(case, c * 2 * MIB) for c in capacities], packed(r["tokens"]))
    print(name, len(r["tokens"]), "tokens", r["peak_allocated"], r["peak_reserved"], flush=True)


def recorded_before(name):
    text = open(os.path.join(OUT, name + ".trace")).read()
    top, events = text.split("\nevents\n")
    is_run = lambda line: line.split()[0] in ("run", "expandable")
    head, runs = [l for l in top.split("\n") if not is_run(l)], [l for l in top.split("\n") if is_run(l)]
    return json.loads(head[0][5:]), head, runs, events.strip()


def extend(name, capacities):
    case, head, runs, events = recorded_before(name)
    write(name, head, runs + [run_line(case, c) for c in capacities], events)


def extend_expandable(name):
    """On a device with the capacity for its total, and on a card with neighbours: from what the tensors take to what is reserved."""
    case, head, runs, events = recorded_before(name)
    runs = [r for r in runs if not r.startswith("expandable ")]
    free = run_line(case, CARD, CARD).split()
    low, high = (-(-int(n) // (2 * MIB)) for n in free[5:7])
    capacities = sorted({high, high - 1, high + 40} | {low + (high - low) * i // 6 for i in range(6)})
    lines = [run_line(case, c * 2 * MIB, total) for c in capacities for total in (CARD, c * 2 * MIB)]
    write(name, head, runs + [" ".join(free)] + lines, events)
    print(name, len(lines), "runs", flush=True)


if __name__ == "__main__":
    args = sys.argv[1:]
    if args and args[0] == "--at":
        extend(args[2], [int(c) for c in args[1].split(",")])
    elif args and args[0] == "--expandable":
        for name in args[1:] or [name for name, case in CASES.items() if case.get("quantize") != "int8"]:
            extend_expandable(name)  # int8 asks for other blocks here than on the oracle's own driver
    else:
        for name in args or CASES:
            record(name)
