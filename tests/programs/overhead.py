#!/usr/bin/env python3
"""What `import torch` takes more under `oomph run`: the two turn by turn, medians, and their ratio.

    overhead.py --python VENV/bin/python [--oomph target/release/oomph] [--runs 10]

Needs a release build, and a quiet machine: it says the load, and, as that moves the clock more than oomph does, the
processors' time as well. Exit code 1: more than 5% slower by the clock in the median.
"""
import argparse, os, pathlib, resource, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def worked():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(command):
    """Returns seconds by the clock, and of all processors for the command and its descendants."""
    begun, before = time.monotonic(), worked()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode not in (0, 5):  # oomph's 5: the command used no GPU, as an import does
        sys.exit(f"{command}: exit code {done.returncode}")
    return time.monotonic() - begun, worked() - before


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--python", required=True), a.add_argument("--oomph", default=str(ROOT / "target/release/oomph"))
    a.add_argument("--runs", type=int, default=10)
    a = a.parse_args()
    alone = [a.python, "-c", "import torch"]
    under = [a.oomph, "run", "--gpu", "sim:a100-80gb", "--", *alone]
    seconds(alone), seconds(under)  # files into the cache
    times = {"alone": [], "under": []}
    for run in range(a.runs):
        # Which of the two comes first takes turns as well.
        for name, command in [("alone", alone), ("under", under)][:: 1 if run % 2 else -1]:
            times[name].append(seconds(command))
    ratios = []
    for at, of in enumerate(["by the clock", "of processors"]):
        one, other = (statistics.median(pair[at] for pair in times[name]) for name in ("alone", "under"))
        ratios.append(other / one)
        print(f"{of}: alone {one:.3f} s, under oomph run {other:.3f} s: {100 * (ratios[at] - 1):+.1f}%")
    print(f"{a.runs} runs each, in turn; load {os.getloadavg()[0]:.1f}")
    sys.exit(0 if ratios[0] <= 1.05 else 1)


if __name__ == "__main__":
    main()
