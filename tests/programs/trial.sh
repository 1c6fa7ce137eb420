#!/usr/bin/env bash
# oomph run and oomph trial around real PyTorch, on simulated GPUs. Opt-in: needs a Python with
# PyTorch for CUDA (no GPU), and takes some minutes.
#
#     PYTHON=~/venv/bin/python tests/programs/trial.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
oomph=${OOMPH:-target/debug/oomph}
[ -x "$oomph" ] || cargo build --quiet
script=tests/programs/train_tiny_gpt.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
json() { "$python" -c 'import json, sys; print(eval(sys.argv[2], {"sys": sys, "r": json.load(open(sys.argv[1]))}))' "$@"; }
check() { # WHAT GOT WANTED
    if [ "$2" = "$3" ]; then echo "ok    $1: $2"; else echo "WRONG $1: $2, not $3"; exit 1; fi
}

# A run, and what PyTorch itself says of it.
"$oomph" run --gpu sim:t4 --json -- "$python" "$script" --batch-size 4 --accumulate 2 \
    > "$work/run.json" 2> "$work/run.log"
check "verdict" "$(json "$work/run.json" 'r["verdict"]')" ran
check "reserved + context = on the device" \
    "$(json "$work/run.json" '[p["peak_device_bytes"] - p["peak_reserved_bytes"] > 0 for p in r["processes"]]')" "[True]"
echo "      allocated $(json "$work/run.json" 'r["processes"][0]["peak_allocated_bytes"]')," \
    "reserved $(json "$work/run.json" 'r["processes"][0]["peak_reserved_bytes"]')"

# Ended by what it prints, with its counters and its memory history.
"$oomph" run --gpu sim:t4 --json --until 'step 1' --record "$work/history.pickle" -- \
    "$python" "$script" --batch-size 4 --steps 500 > "$work/until.json" 2>> "$work/run.log"
check "until" "$(json "$work/until.json" 'r["verdict"], r["processes"][0]["peak_allocated_bytes"] is not None')" "('ran', True)"
check "history" "$("$python" -c 'import pickle, sys; print(len(pickle.load(open(sys.argv[1], "rb"))["device_traces"][0]) > 1000)' "$work/history.pickle")" True

# Too much: PyTorch's own error.
"$oomph" run --gpu sim:t4 --json -- "$python" "$script" --batch-size 64 \
    > "$work/oom.json" 2>> "$work/run.log" && status=0 || status=$?
check "out of memory" "$status $(json "$work/oom.json" 'r["verdict"]')" "3 out_of_memory"

# Aborted by PyTorch itself after its end (before Python 3.14): it has run.
"$oomph" run --gpu sim:t4 --json -- "$python" tests/programs/aborted.py > "$work/aborted.json" 2>> "$work/run.log"
check "aborted after its end" "$(json "$work/aborted.json" 'r["verdict"], any("38228" in w for w in r["warnings"]) or sys.version_info >= (3, 14)')" "('ran', True)"

# A trial, and its neighbours by hand.
"$oomph" trial --gpu sim:t4 --headroom 0% --effective-batch 240 --json --keep "$work/kept" -- "$python" "$script" \
    --batch-size '{micro_batch}' --accumulate '{accumulation_steps}' > "$work/trial.json"
largest=$(json "$work/trial.json" 'r["largest_micro_batch"]')
echo "      trial: micro-batch $largest after $(json "$work/trial.json" 'len(r["runs"])') runs," \
    "plan $(json "$work/trial.json" 'r["plan"]["micro_batch"], r["plan"]["accumulation_steps"]')"
for size in "$largest" $((largest + 1)); do
    "$oomph" run --gpu sim:t4 --json -- "$python" "$script" --batch-size "$size" --accumulate 2 \
        > "$work/$size.json" 2>> "$work/run.log" || true
done
check "the largest runs, one more does not" \
    "$(json "$work/$largest.json" 'r["verdict"]') $(json "$work/$((largest + 1)).json" 'r["verdict"]')" "ran out_of_memory"

# Four ranks.
"$oomph" run --gpu 'sim:a10*4' --json -- "$python" -m torch.distributed.run --standalone \
    --nproc-per-node 4 "$script" --batch-size 4 > "$work/ddp.json" 2>> "$work/run.log" || { tail -30 "$work/run.log"; exit 1; }
check "ranks" "$(json "$work/ddp.json" 'r["verdict"], sorted(p["rank"] for p in r["processes"] if p["peak_allocated_bytes"])')" \
    "('ran', [0, 1, 2, 3])"
echo "all as it should be"
