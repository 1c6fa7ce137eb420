#!/usr/bin/env python3
"""The largest micro-batch that a capacity holds, it and all smaller ones: asked of the oracle, size by size.

    largest.py CASES.jsonl > rows.jsonl      # cases as sweep.py has them, with `capacity` in bytes
    largest.py --draw 30 --seed 7 > CASES.jsonl

Run it by the Python of an oracle's environment. Whether a size runs is not monotonic, so every size is run, from one until
five have failed. A row's `result` has `largest`, the size before the first that failed, and the sizes that `ran` and that
`failed`. --draw chooses setups by draw.py, and capacities of cards from a T4 to a B200, halved until between 2 and 48 samples
fit, by our own estimate (`--oomph`), which has no part in the answers.
"""
import argparse, json, os, random, subprocess, sys, tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import draw, switches, sweep

CARDS_GIB = {"t4": 15, "rtx-3060": 12, "a10": 22, "rtx-4090": 24, "v100": 32, "a100-40gb": 40, "l40s": 45, "h100": 80, "h200": 141, "b200": 180}
FAILURES = 5


def runs(oracle, case, size):
    answer = oracle.forked(oracle.child, {**oracle.DEFAULTS, **case, "micro_batch": size}, case["capacity"])
    if not isinstance(answer, bool):
        raise RuntimeError(answer["error"])
    return answer


def largest(oracle, case):
    outcomes = []
    while outcomes.count(False) < FAILURES:
        outcomes.append(runs(oracle, case, len(outcomes) + 1))
    that = lambda wanted: [size for size, ran in enumerate(outcomes, 1) if ran == wanted]
    return {"largest": outcomes.index(False), "ran": that(True), "failed": that(False)}


def estimate(oomph, case, versions, capacity, folder):
    path = os.path.join(folder, "config.json")
    json.dump(case["config"], open(path, "w"))
    arguments = sweep.flags(case, *versions, None)
    arguments[arguments.index("--micro-batch") + 1] = "auto"
    clean = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    run = [oomph, "estimate", path, *arguments, "--capacity", f"{capacity >> 20}MiB", "--headroom", "0MiB", "--json"]
    done = subprocess.run(run, capture_output=True, text=True, env=clean)
    return json.loads(done.stdout).get("largest_micro_batch") or 0 if done.returncode == 0 else 0


def main():
    a = argparse.ArgumentParser()
    a.add_argument("cases", nargs="?"), a.add_argument("--draw", type=int, default=0), a.add_argument("--seed", type=int, default=7)
    a.add_argument("--oomph", default="target/debug/oomph")
    a = a.parse_args()
    oracle = switches.load()
    import torch, transformers
    versions = [".".join(v.split(".")[:2]) for v in (torch.__version__, transformers.__version__)]
    sweep.warm()
    with tempfile.TemporaryDirectory() as folder:
        rng, families = random.Random(a.seed), []
        while a.draw > 0:
            families = families or rng.sample(draw.ALL, len(draw.ALL))
            case = draw.case(rng, [families[-1]])
            size, card = rng.choice([1, 2, 4, 8, 16, 32, 64, 128]), rng.choice(sorted(CARDS_GIB))
            case["capacity"] = (CARDS_GIB[card] << 10) // size << 20
            found = estimate(a.oomph, case, versions, case["capacity"], folder)
            if 2 <= found <= 48 and not sweep.lacks(case):
                families.pop()
                a.draw -= 1
                print(json.dumps({k: v for k, v in case.items() if k != "micro_batch"} | {"id": f"{card}-{size}-{case['config']['model_type']}-{a.draw}"}))
        for line in open(a.cases) if a.cases else []:
            case = json.loads(line)
            try: result = largest(oracle, case)
            except RuntimeError as error:
                print(case["id"], str(error)[-300:], file=sys.stderr)
                continue
            print(json.dumps(case | {"result": result}), flush=True)
            guess = estimate(a.oomph, case | {"micro_batch": 1}, versions, case["capacity"], folder)
            print(case["id"], result["largest"], guess, "" if result["largest"] == guess else "DIFFERENT", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
