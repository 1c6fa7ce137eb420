"""Notes what PyTorch itself counts, for `oomph run`. Prints nothing, imports no framework, and never
breaks a program: whatever goes wrong in here is dropped.

Python imports a module of this name at its start. The user's own one, if there is one further on
the path, runs as it would have. Written for any Python 3.
"""


def _begin():
    import os
    import sys

    folder = os.environ.get("OOMPH_RUN_REPORTS")
    if not folder or not os.path.isdir(folder):
        return
    # The versions that matter to whoever compares two runs.
    packages = (
        "torch", "torchvision", "transformers", "accelerate", "peft", "trl", "datasets",
        "bitsandbytes", "deepspeed", "lightning", "pytorch_lightning", "timm", "diffusers",
        "liger_kernel", "flash_attn", "xformers", "unsloth", "triton", "jax", "jaxlib",
        "tensorflow", "numpy",
    )
    peaks = {}

    def modules_met():
        versions = {}
        for name in packages:
            module = sys.modules.get(name)
            version = getattr(module, "__version__", None)
            if isinstance(version, str):
                versions[name] = str(version)
        cuda = getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None)
        if isinstance(cuda, str):
            versions["cuda"] = cuda
        return versions

    def visible(torch, index):
        # The number that the machine knows a device by: as the process counts it, unless
        # CUDA_VISIBLE_DEVICES renumbers.
        names = os.environ.get("CUDA_VISIBLE_DEVICES")
        if names is None:
            return index
        names = [name.strip() for name in names.split(",")]
        name = names[index] if index < len(names) else ""
        return int(name) if name.isdigit() else name

    def look(torch, index):
        # Peaks and counts so far; a program that resets them had them looked at before.
        stats = torch._C._cuda_memoryStats(index)
        now = {
            "allocated": stats["allocated_bytes"]["all"]["peak"],
            "reserved": stats["reserved_bytes"]["all"]["peak"],
            "ooms": stats.get("num_ooms", 0),
            "retries": stats.get("num_alloc_retries", 0),
        }
        old = peaks.setdefault(index, dict.fromkeys(now, 0))
        for key, value in now.items():
            old[key] = max(old[key], value)

    def devices():
        torch = sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)
        if cuda is None or not cuda.is_initialized():
            return []
        found = []
        for index in range(cuda.device_count()):
            look(torch, index)
            if peaks[index]["reserved"] or peaks[index]["ooms"]:
                found.append(dict(peaks[index], index=index, gpu=visible(torch, index)))
        return found

    def rank():
        for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
            text = os.environ.get(name, "")
            if text.isdigit():
                return int(text)
        return None

    def exception():
        # What the program ended with: Python keeps it when nobody caught it.
        last = getattr(sys, "last_value", None)
        if not isinstance(last, BaseException):
            return None
        types, text, seen = [], "", 0
        while last is not None and seen < 20:
            kind = type(last)
            types.append(kind.__module__ + "." + kind.__name__)
            text = text or str(last)[:2000]
            last, seen = last.__cause__ or last.__context__, seen + 1
        return {"types": types, "text": text}

    def dump_history():
        path = os.environ.get("OOMPH_RUN_RECORD")
        torch = sys.modules.get("torch")
        if not path or not recording or not torch.cuda.is_initialized():
            return None
        stem, ending = os.path.splitext(path)
        if rank() is not None:
            path = "%s.rank%d%s" % (stem, rank(), ending)
        else:
            # The first process without a rank has the name as it is.
            try:
                flags = os.O_CREAT | os.O_EXCL
                os.close(os.open(os.path.join(folder, "recorded"), flags, 0o600))
            except OSError:
                path = "%s.pid%d%s" % (stem, os.getpid(), ending)
        torch.cuda.memory._dump_snapshot(path)
        return path

    written = []
    recording = []
    # Out-of-memory errors that reached the program, by process, once they are counted.
    raised = {}

    def write(at_exit=False):
        if os.getpid() in written:
            return
        try:
            import json

            report = {"pid": os.getpid(), "rank": rank(), "versions": modules_met()}
            report["at_exit"] = at_exit
            if raised:
                report["raised"] = raised.get(os.getpid(), 0)
            for key, ask in (
                ("devices", devices), ("exception", exception), ("record", dump_history)
            ):
                try:
                    report[key] = ask()
                except Exception as error:
                    report.setdefault("problems", []).append("%s: %s" % (key, error))
            if not report.get("devices") and not report["versions"] and not report["exception"]:
                return
            path = os.path.join(folder, "%d.json" % os.getpid())
            with open(path + ".new", "w") as file:
                json.dump(report, file)
            os.rename(path + ".new", path)
            written.append(os.getpid())
        except Exception:
            pass

    import atexit

    atexit.register(write, True)

    # Workers of torch.multiprocessing end here, without atexit.
    leave = os._exit

    def _exit(status):
        write()
        leave(status)

    os._exit = _exit

    # `--until`, `--timeout` and torchrun end processes so; a program with a handler keeps it.
    import signal
    import threading

    def on_term(number, frame):
        # PyTorch's data loader raises an error in here when its workers are ended as well.
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        except Exception:
            pass
        write()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, on_term)

    def count_errors(kind):
        # PyTorch's own count has also what it does without (a workspace that cuDNN would like).
        begin = kind.__init__

        def __init__(self, *arguments, **words):
            raised[os.getpid()] = raised.get(os.getpid(), 0) + 1
            begin(self, *arguments, **words)

        kind.__init__ = __init__
        raised[os.getpid()] = 0

    def when_torch_is_there(torch):
        # A program that starts its peaks anew must not hide those before.
        for name in ("_cuda_resetPeakMemoryStats", "_accelerator_resetPeakStats"):
            reset = getattr(torch._C, name, None)
            if reset is None:
                continue

            def wrapped(*arguments, reset=reset):
                try:
                    for index in range(torch.cuda.device_count()):
                        look(torch, index)
                except Exception:
                    pass
                return reset(*arguments)

            setattr(torch._C, name, wrapped)
        count_errors(torch._C.OutOfMemoryError)
        if os.environ.get("OOMPH_RUN_RECORD"):
            def record():
                try:
                    torch.cuda.memory._record_memory_history(max_entries=1000000)
                    recording.append(True)
                except Exception:
                    pass

            torch.cuda._lazy_call(record)

    def when_groups_are_there(module):
        # Before anybody takes the functions' names from it.
        import importlib.util

        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "object_collectives.py")
        spec = importlib.util.spec_from_file_location("oomph_object_collectives", path)
        ours = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(ours)
        ours.mend(module)

    waiting = {"torch": when_torch_is_there}
    if os.environ.get("OOMPH_VIRTUAL_GPU"):
        # Real kernels add up the sizes of pickles as they should.
        waiting["torch.distributed.distributed_c10d"] = when_groups_are_there

    class Finder(object):
        """Waits for the program to import these modules; does nothing by itself."""

        def find_spec(self, name, path=None, target=None):
            then = waiting.pop(name, None)
            if then is None:
                return None
            try:
                import importlib.util

                spec = importlib.util.find_spec(name)
                loader = getattr(spec, "loader", None)
                if loader is None or not hasattr(loader, "exec_module"):
                    return spec
                execute = loader.exec_module

                def exec_module(module):
                    execute(module)
                    try:
                        then(module)
                    except Exception:
                        pass

                loader.exec_module = exec_module
                return spec
            except Exception:
                return None

    sys.meta_path.insert(0, Finder())


def _users_own():
    """Runs the module of this name that this one stands in front of."""
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    own = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
        if own is not None:
            sys.modules["sitecustomize"] = own


try:
    _begin()
except Exception:
    pass
_users_own()
