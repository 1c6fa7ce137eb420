#!/usr/bin/env python3
"""Kills runs at random moments, and looks for what is left; then runs two at once.

    kills.py --python VENV/bin/python [--oomph target/debug/oomph] [--kills 200] [--share 5] [--every 20] [--pairs 3]
             [--seed 1] [--out docs/simulated-gpu-kills.md]

The program is quick.py, or, each fifth time (`--share`), loop.py, which is PyTorch's: both have workers, pinned memory
and shared memory. A kill hits oomph, its guard, the program, one of its workers, oomph and its guard at the same time, or
oomph by SIGTERM or SIGINT, at a moment between the start and a little after the end. After each, no process of the run
may be there, nor a file of it: one that lies until the next run begins is counted. Every 20th run is left alone and has to have the peaks of the
first. Exit code 1: something was left.
"""
import argparse, collections, fcntl, json, os, pathlib, random, signal, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MARK = "OOMPH_KILLS_MARK"
QUICK, TORCH = "quick.py", "loop.py"
VICTIMS = ["oomph", "guard", "program", "a worker", "oomph and guard", "oomph, SIGTERM", "oomph, SIGINT"]
# How long an end may take: a guard asks before it kills (8 s for the command), an orphan's death is the kernel's.
PATIENCE = 15
# How long a folder may lie whose processes have all gone.
MOMENT = 2


def processes(mark):
    """Processes of a run by the word in their environment: {pid: (parent, command line)}."""
    found = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            stat = (folder / "stat").read_text()
            state, parent = stat[stat.rindex(")") + 2:].split()[:2]
            if state not in "ZX":
                found[int(folder.name)] = (int(parent), (folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            pass
    return found


class Runs:
    def __init__(self, oomph, python, folder):
        self.oomph, self.python, self.folder, self.count = oomph, python, folder, 0
        self.temporary = folder / "tmp"
        self.temporary.mkdir()

    def start(self, program, gpu="sim:a100-80gb", wanted=False):
        """Starts a run; returns it and the word that its processes carry."""
        self.count += 1
        mark = f"{os.getpid()}-{self.count}"
        environment = dict(os.environ, TMPDIR=str(self.temporary), OMP_NUM_THREADS="1", **{MARK: mark})
        command = [self.oomph, "run", "--json", "--gpu", gpu, "--", self.python, str(HERE / program)]
        out = subprocess.PIPE if wanted else subprocess.DEVNULL
        return subprocess.Popen(command, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out,
                                stderr=subprocess.DEVNULL, text=True), mark

    def finish(self, run):
        """Returns what a run that nobody disturbs came to."""
        answer = json.loads(run.communicate()[0])
        return answer["verdict"], answer["gpus"][0]["peak_bytes"], [p["peak_allocated_bytes"] for p in answer["processes"]]

    def left(self):
        """Folders of runs that lie about, each with whether somebody holds its lock."""
        found = []
        for folder in self.temporary.glob("oomph-*/run-*"):
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append((folder.name, False))
            except BlockingIOError:
                found.append((folder.name, True))
            finally:
                os.close(handle)
        return found

    def left_at_last(self):
        """What lies about once whoever is at it has had a moment to remove it."""
        begun = time.monotonic()
        while (found := self.left()) and time.monotonic() - begun < MOMENT:
            time.sleep(0.02)
        return found


def kill(run, mark, victim):
    """Returns who was hit."""
    there = processes(mark)
    guard = [pid for pid, (parent, line) in there.items() if parent == run.pid and "__run-guard" in line]
    program = [pid for pid, (parent, _) in there.items() if parent in guard]
    workers = [pid for pid, (parent, _) in there.items() if parent in program]
    hit = {"guard": guard[:1], "program": program[:1], "a worker": workers[:1], "oomph and guard": [run.pid, *guard[:1]]}
    pids = hit.get(victim) or [run.pid]
    number = {"oomph, SIGTERM": signal.SIGTERM, "oomph, SIGINT": signal.SIGINT}.get(victim, signal.SIGKILL)
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return "nobody: it had ended"
    return victim if hit.get(victim, pids) else "oomph"


def gone(mark):
    """Waits until no process of a run is there; returns those that stay."""
    begun = time.monotonic()
    while True:
        there = processes(mark)
        if not there or time.monotonic() - begun > PATIENCE:
            return there
        time.sleep(0.02)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--python", required=True), a.add_argument("--oomph", default=str(ROOT / "target/debug/oomph"))
    a.add_argument("--kills", type=int, default=200), a.add_argument("--every", type=int, default=20)
    a.add_argument("--pairs", type=int, default=3), a.add_argument("--seed", type=int, default=1)
    a.add_argument("--share", type=int, default=5)
    a.add_argument("--out", type=pathlib.Path)
    a = a.parse_args()
    chance, bad, hits, slowest, orphaned = random.Random(a.seed), [], collections.Counter(), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(os.path.abspath(a.oomph), a.python, pathlib.Path(folder))
        first, whole = {}, {}
        for program in (QUICK, TORCH):
            begun = time.monotonic()
            first[program] = runs.finish(runs.start(program, wanted=True)[0])
            whole[program] = time.monotonic() - begun
            print(f"{program} alone: {first[program]}, {whole[program]:.1f} s", flush=True)
            if first[program][0] != "ran":
                sys.exit("the program does not run when it is left alone")
        shared, clean, with_torch = set(os.listdir("/dev/shm")), 0, 0
        for number in range(a.kills):
            program = TORCH if number % a.share == a.share - 1 else QUICK
            with_torch += program == TORCH
            run, mark = runs.start(program)
            time.sleep(chance.uniform(0, whole[program] * 1.1))
            hits[kill(run, mark, VICTIMS[number % len(VICTIMS)])] += 1
            ended = time.monotonic()
            # A worker's end is the program's to notice; should it go on instead, it ends by itself.
            run.wait(timeout=whole[program] * 4 + PATIENCE)
            if stay := gone(mark):
                bad.append(f"kill {number}: {stay}")
            slowest = max(slowest, time.monotonic() - ended)
            left = runs.left_at_last()
            orphaned += len(left)
            if any(held for _, held in left):
                bad.append(f"kill {number}: a lock is held: {left}")
            if number % a.every == a.every - 1:
                program = (QUICK, TORCH)[number // a.every % 2]
                again = runs.finish(runs.start(program, wanted=True)[0])
                clean += again == first[program]
                if again != first[program] or runs.left():
                    bad.append(f"after kill {number}: {again}, left {runs.left()}")
                print(f"{number + 1} kills, {clean} runs after them as the first, {len(bad)} bad; {dict(hits)}", flush=True)
        if new := set(os.listdir("/dev/shm")) - shared:
            print(f"shared memory of the programs' own that is left: {sorted(new)[:5]}", flush=True)
        # Each has room alone, and the two together would not (846 MiB each).
        pairs, room = 0, "sim:1500MiB"
        for _ in range(a.pairs):
            both = [runs.start(TORCH, gpu=room, wanted=True)[0] for _ in range(2)]
            came = [runs.finish(run) for run in both]
            pairs += came[0] == came[1] and came[0][0] == "ran"
            if came[0] != came[1] or came[0][0] != "ran":
                bad.append(f"two at once: {came}")
        print(f"{pairs} of {a.pairs} pairs did not see each other: {came[0] if a.pairs else ''}", flush=True)
        if left := runs.left():
            bad.append(f"at the end: {left}")
    for line in bad:
        print("BAD", line, flush=True)
    if a.out:
        who = ", ".join(f"{who} {count}" for who, count in sorted(hits.items()))
        a.out.write_text("\n".join([
            "# Runs that are killed", "",
            f"`tests/programs/kills.py --kills {a.kills} --seed {a.seed}`: {a.kills - with_torch} runs of `tests/programs/{QUICK}`",
            f"and {with_torch} of `{TORCH}` (PyTorch), with workers, pinned and shared memory, under `oomph run`, each hit by SIGKILL",
            f"(or as said) at a random moment of its life. Nobody in `{QUICK}` ends by himself: not its workers, nor a process in a",
            "session of its own.", "",
            f"- Hit: {who}.",
            f"- Processes of a run left, held locks, and files left once the next run had begun: {len(bad)}. The last process was gone",
            f"  {slowest:.1f} s after the hit at most. Folders that lay until the next run began: {orphaned}.",
            f"- Every {a.every}th run was left alone: {clean} of {a.kills // a.every} had the verdict and the peaks, to the byte, of the one before all",
            "  kills.",
            f"- Two runs at once on {room} each, which together would not fit: {pairs} of {a.pairs} pairs ran with equal peaks.", ""]))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
