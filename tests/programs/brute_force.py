#!/usr/bin/env python3
"""Compares the micro-batch that `oomph trial` finds with the one that brute force finds: a run for each size.

    brute_force.py --python VENV/bin/python [--oomph target/debug/oomph] [--jobs 1] [--out docs/simulated-gpu-trials.md] [--kept]

Six programs at three capacities each, without headroom. The capacities are set between the peaks of two sizes, from the peaks
of one and of four samples. Brute force runs 1, 2, 3, ... until memory runs out, with the micro-steps that a trial's run of
that size has: as many as the plan of that size, six at most. Rows are kept in FILE.partial, and a series that was cut off
goes on there, if the oomph is the same. Exit code 1: they differ.
"""
import argparse, concurrent.futures, hashlib, json, os, pathlib, statistics, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Arguments with the placeholders of a trial; without any, the program looks into the environment.
GPT = ["train_tiny_gpt.py", "--batch-size", "{micro_batch}", "--accumulate", "{accumulation_steps}"]
KINDS = ("convolutions", "checkpointed", "lengths", "pictures")
PROGRAMS = [GPT, [*GPT, "--amp"], *[["sized.py", kind] for kind in KINDS]]
AIMS = [3, 6, 9]
# All sizes to 10 divide it: the plan takes the largest, and no run more for its own.
EFFECTIVE_BATCH = 5040
# Micro-steps from which on more change nothing (`SETTLED` of src/trial/trial.rs).
SETTLED = 6


def name_of(program):
    return " ".join([program[0], *(word for word in program[1:] if word in ("--amp", *KINDS))])


class Tool:
    def __init__(self, oomph, python, rows):
        self.oomph, self.python, self.rows = oomph, python, rows

    def ask(self, words, program, environment=()):
        command = [self.oomph, *words, "--json", "--", self.python, str(HERE / program[0]), *program[1:]]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(command, cwd=folder, env=dict(os.environ, OMP_NUM_THREADS="1", **dict(environment)),
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return json.loads(done.stdout)

    def run(self, gpu, program, size):
        steps = min(-(-EFFECTIVE_BATCH // size), SETTLED)
        sizes = {"micro_batch": size, "accumulation_steps": steps, "effective_batch": size * steps}
        filled = [word.format(**sizes) for word in program]
        answer = self.ask(["run", "--gpu", gpu], filled, {f"OOMPH_{name.upper()}": str(value) for name, value in sizes.items()})
        if answer["verdict"] not in ("ran", "out_of_memory"):
            sys.exit(f"{filled} on {gpu}, {sizes}: {answer['verdict']}, {answer['reason']}")
        return answer

    def peak(self, program, size):
        return self.run("sim:a100-80gb", program, size)["gpus"][0]["peak_bytes"]

    def brute_force(self, gpu, program):
        size = 0
        while self.run(gpu, program, size + 1)["verdict"] == "ran":
            size += 1
        return size

    def trial(self, gpu, program):
        words = ["trial", "--gpu", gpu, "--headroom", "0%", "--effective-batch", str(EFFECTIVE_BATCH)]
        answer = self.ask(words, program)
        if "largest_micro_batch" not in answer:
            sys.exit(f"{program} on {gpu}: {answer}")
        return answer["largest_micro_batch"], len(answer["runs"])

    def compare(self, program):
        """Makes the rows of a program: it, the capacity, the answers of brute force and of the trial, the trial's runs."""
        name = name_of(program)
        aims, peaks = [aim for aim in AIMS if (name, aim) not in self.rows], None
        for aim in aims:
            one, four = peaks = peaks or (self.peak(program, 1), self.peak(program, 4))
            size = f"{(one + (four - one) * (2 * aim - 1) // 6) >> 20}MiB"
            row = name, size, self.brute_force(f"sim:{size}", program), *self.trial(f"sim:{size}", program)
            self.rows.add(name, aim, row)
            print(*row, flush=True)


class Rows(dict):
    """Rows by program and aim, each on disk as soon as it is known."""

    def __init__(self, path, oomph):
        super().__init__()
        self.path, self.made_by = path, hashlib.sha256(pathlib.Path(oomph).read_bytes()).hexdigest()
        for line in path.read_text().splitlines() if path and path.exists() else []:
            made_by, name, aim, row = json.loads(line)
            if made_by == self.made_by:
                self[name, aim] = tuple(row)

    def add(self, name, aim, row):
        self[name, aim] = row
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps([self.made_by, name, aim, row]) + "\n")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--python", required=True), a.add_argument("--oomph", default=str(ROOT / "target/debug/oomph"))
    a.add_argument("--jobs", type=int, default=1), a.add_argument("--out", type=pathlib.Path)
    a.add_argument("--kept", action="store_true", help="run nothing: write the page of the rows that are kept")
    a = a.parse_args()
    partial = a.out and a.out.with_name(a.out.name + ".partial")
    kept = Rows(partial, a.oomph)
    tool = Tool(os.path.abspath(a.oomph), a.python, kept)
    if not a.kept:
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            list(pool.map(tool.compare, PROGRAMS))
    wanted = [(name_of(program), aim) for program in PROGRAMS for aim in AIMS]
    found = [kept[key] for key in wanted if key in kept]
    equal, median = sum(row[2] == row[3] for row in found), statistics.median(row[4] for row in found)
    print(f"{equal} of {len(found)} equal, {median} runs in the median, {len(wanted) - len(found)} rows not run")
    if a.out:
        version = subprocess.run([a.python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True,
                                 check=True).stdout.strip()
        missing = sorted({name for name, aim in wanted if (name, aim) not in kept})
        lacking = [f"Of {len(wanted)} rows {len(wanted) - len(found)} are not run yet: `{'`, `'.join(missing)}`.", ""] if missing else []
        a.out.write_text("\n".join([
            "# Trials against brute force", "",
            "The largest micro-batch by `oomph trial`, and by a run of each size from one sample on until memory runs out, on",
            "simulated GPUs of that capacity, without headroom. Each run has the micro-steps of its size's plan, six at most, in",
            f"both. torch {version}. Made by `tests/programs/brute_force.py`.", "",
            f"Equal: {equal} of {len(found)}. Runs of a trial: {median:g} in the median, {max(row[4] for row in found)} at most.", "",
            *lacking, "| program | capacity | brute force | trial | runs of the trial |", "|---|---|---|---|---|",
            *(f"| `{name}` | {size} | {brute} | {trial} | {runs} |" for name, size, brute, trial, runs in found), ""]))
        if len(found) == len(wanted):
            partial.unlink()
    sys.exit(0 if equal == len(wanted) and median <= 5 else 1)


if __name__ == "__main__":
    main()
