"""Records what DeepSpeed's own batch methods make of every combination of a grid.

Opt-in: needs network access (PyPI) and no torch. The two methods are lifted out of the pinned
package's source and run on a stub. Writes tests/data/deepspeed_batches.txt, which
tests/frameworks.rs compares the equation with:

    python3 tests/frameworks/deepspeed.py > tests/data/deepspeed_batches.txt
"""

import ast
import itertools
import pathlib
import subprocess
import sys
import tarfile
import tempfile

VERSION = "0.19.8"
METHODS = ("_set_batch_related_parameters", "_batch_assertion")
WORLDS = (1, 2, 3, 4, 6, 7, 8, 16, 64)
WHOLES = (None, 0, 1, 2, 6, 8, 16, 24, 64, 96, 252, 256, 1024)
MICROS = (None, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64)
STEPS = (None, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 18, 32)


def source():
    """Returns the text of runtime/config.py of the pinned version."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "-d", folder, f"deepspeed=={VERSION}"], check=True)
        archive = next(pathlib.Path(folder).glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            name = f"deepspeed-{VERSION}/deepspeed/runtime/config.py"
            return tar.extractfile(name).read().decode()


def methods(text):
    """Compiles the two methods, and nothing else of the module."""
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name in METHODS
    ]
    assert len(found) == len(METHODS), [node.name for node in found]
    space = {}
    exec(compile(ast.Module(body=found, type_ignores=[]), "deepspeed", "exec"), space)
    return [space[name] for name in METHODS]


class Stub:
    """Has the attributes that the methods read and write."""


def outcome(run, world, whole, micro, steps):
    """Returns `micro,steps,whole` as DeepSpeed will train, or `.` where it refuses."""
    stub = Stub()
    stub.world_size = world
    stub.train_batch_size = whole
    stub.train_micro_batch_size_per_gpu = micro
    stub.gradient_accumulation_steps = steps
    try:
        for method in run:
            method(stub)
    except (AssertionError, ZeroDivisionError):
        return "."
    micro, steps = stub.train_micro_batch_size_per_gpu, stub.gradient_accumulation_steps
    return f"{micro},{steps},{stub.train_batch_size}"


def shown(number):
    return "-" if number is None else str(number)


def main():
    run = methods(source())
    print(f"# deepspeed {VERSION}: world whole micro, then the outcome for each of these steps:")
    print("steps", *map(shown, STEPS))
    for world, whole, micro in itertools.product(WORLDS, WHOLES, MICROS):
        outcomes = [outcome(run, world, whole, micro, steps) for steps in STEPS]
        print(world, shown(whole), shown(micro), *outcomes)


if __name__ == "__main__":
    main()
