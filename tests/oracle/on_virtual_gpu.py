#!/usr/bin/env python3
"""Runs the memory oracle on the simulated GPU, and compares with what it gave on its own driver.

    on_virtual_gpu.py --oracle DIR --python VENV/bin/python [--library FILE] [--gpu a100-80gb]
                      [--only ID,ID] [--stride N] [--min-capacity] [--out FILE] CASES.jsonl

DIR holds oracle.py. CASES.jsonl has a case and its result a line. On `--gpu` (a file of
profiles/gpus/) other than the A100 the table says what differs, and nothing fails. The card has
4 TiB, as the oracle's own has when nothing limits it. Exit code 1: a peak is not equal.
"""
import argparse, ctypes, json, os, pathlib, subprocess, sys, tempfile, tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIELDS = ["peak_allocated", "peak_requested", "peak_reserved"]


def newest_library():
    built = ROOT.glob("target/*/build/oomph-*/out/libvirtual_gpu.so")
    found = sorted(built, key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit("no libvirtual_gpu.so under target/: run cargo build first, or name one by --library")
    return found[-1]


def scenario(gpu):
    p = tomllib.loads((ROOT / "profiles/gpus" / f"{gpu}.toml").read_text())
    return (f'gpu name="{p["product_name"]}" total=4TiB capability={p["compute_capability"]} sms={p["sm_count"]} '
            f'l2={p["l2_bytes"]} clock={p["boost_clock_mhz"]} bandwidth={p["memory_bandwidth_bytes_per_second"]}\n')


def install(folder, library, gpu):
    """Lays the library and a scenario out as the launcher does; returns the environment."""
    target = folder / "libvirtual_gpu.so"
    target.write_bytes(library.read_bytes())
    (folder / "driver").mkdir()
    for name in ["libcuda.so", "libcuda.so.1", "libnvidia-ml.so", "libnvidia-ml.so.1"]:
        (folder / "driver" / name).symlink_to("../libvirtual_gpu.so")
    (folder / "scenario").write_text(scenario(gpu))
    return dict(os.environ, NULLCUDA_SO=str(target), OOMPH_VIRTUAL_GPU=str(folder / "scenario"))


def move_here(**environment):
    """Has the oracle, imported next, run on a simulated A100; it starts this script again, which then is there already."""
    if "OOMPH_VIRTUAL_GPU" not in os.environ:
        os.environ.update(install(pathlib.Path(tempfile.mkdtemp()), newest_library(), "a100-80gb"), **environment)


def leave(driver, total, capacity):
    """Gives the card so many bytes, of which another program holds all but `capacity`."""
    driver.nullcuda_set_total(ctypes.c_uint64(total))
    if total > capacity:
        import torch
        torch.cuda.mem_get_info()  # makes the context
        assert driver.cuMemAlloc_v2(ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(total - capacity)) == 0


def ask(a, cases, gpu, min_capacity=False, stderr=None):
    """Has the oracle run cases on a simulated card; returns its answer, a row a line. `a` has python, oracle and library."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = install(folder, a.library or newest_library(), gpu)
        inputs = folder / "cases.jsonl"
        asked = ({k: v for k, v in case.items() if k != "result"} | {"min_capacity": min_capacity} for case in cases)
        inputs.write_text("".join(json.dumps(case) + "\n" for case in asked))
        run = [a.python, str(pathlib.Path(a.oracle).resolve() / "oracle.py"), str(inputs)]
        return subprocess.run(run, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder).stdout


def main():
    a = argparse.ArgumentParser()
    a.add_argument("cases"), a.add_argument("--oracle", required=True), a.add_argument("--python", required=True)
    a.add_argument("--library", type=pathlib.Path), a.add_argument("--gpu", default="a100-80gb")
    a.add_argument("--only"), a.add_argument("--stride", type=int, default=1)
    a.add_argument("--min-capacity", action="store_true"), a.add_argument("--out")
    a = a.parse_args()
    wanted = [json.loads(line) for line in open(a.cases) if line.strip()][:: a.stride]
    if a.only:
        wanted = [case for case in wanted if case["id"] in a.only.split(",")]
    fields = FIELDS + (["min_capacity"] if a.min_capacity else [])
    got = ask(a, wanted, a.gpu, a.min_capacity)
    if a.out:
        pathlib.Path(a.out).write_text(got)
    results = {row["id"]: row["result"] for row in map(json.loads, got.splitlines())}
    equal = 0
    print("| case |", " | ".join(fields), "|\n|---|" + "---|" * len(fields))
    for case in wanted:
        here, there = results.get(case["id"], {"error": "no result"}), case["result"]
        same = all(here.get(f) == there.get(f) for f in fields)
        equal += same
        cells = ["equal" if here.get(f) == there.get(f) else f"{here.get(f)} ({there.get(f)})" for f in fields]
        note = "" if "error" not in here else " " + here["error"].strip().splitlines()[-1][:200]
        print(f"| {case['id']} | " + " | ".join(cells) + " |" + note, flush=True)
    print(f"\n{equal} of {len(wanted)} equal to the byte, {a.gpu}")
    sys.exit(0 if equal == len(wanted) or a.gpu != "a100-80gb" else 1)


if __name__ == "__main__":
    main()
