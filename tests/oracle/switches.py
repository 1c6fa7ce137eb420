"""What the oracle's cases say besides: switches of our own, added to the oracle that is handed in.

`freeze`: patterns of parameters' names with commas between them, frozen as a loop over named_parameters() does it.
`quantize`: what `from_pretrained(quantization_config=...)` leaves as it is is left so (output embeddings, T5's `wo`, and on transformers 4
what lies beside a tied bias); of a classifier its head, as with `llm_int8_skip_modules`. Images and features of audio stay in float32 then.
`checkpointing`: also `attention` (torch.utils.checkpoint around each layer's attention module) and `every=N` (the first layer
and every N-th after it: transformers' `every_n_layers`, set by hand where it is older than 5.23). Adapters on a classifier of samples or of tokens are made with
`task_type="SEQ_CLS"` or `"TOKEN_CLS"`, those on one of images with `modules_to_save=["classifier"]`: a copy of its head is trained. `task`: also `token-classification`; labels of a regression or of several labels
are float32. Features of
audio are cast to the model's 16 bits, as Whisper's users have to. What `from_pretrained` keeps out of float16 is (T5's `wo`). Of a `padded` mask every question is
answered with no. DeBERTa's
classifier of samples asks which labels are none below zero: all are, as on a card. `optimizer`: also `adamw-8bit-hf` and `paged-adamw-8bit-hf`, with embeddings in 32 bits
as transformers' Trainer has it. `label_len`: the labels' length where it is
not that of the inputs. A gradient scaler never leaves a step out. `attention`: also `flash`, with flash_attn_standin.py for the package.
"""
import fnmatch
import os


def add(oracle):
    import torch
    plain, optimizer = oracle.build, oracle.make_optimizer
    embeddings = []

    def build(case):
        if case["attention"] == "flash":
            import flash_attn_standin
            flash_attn_standin.install()
            case = dict(case, attention="flash_attention_2")
        if case["attention_mask"] == "padded":
            reads_false()
        if case["config"]["model_type"] == "deberta-v2" and case["task"] == "sequence-classification":
            all_are_labelled()
        if case["lora"] and case["task"].endswith("classification"):
            as_classifier(case)
        model, cfg = plain(case)
        embeddings[:] = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
        for name, parameter in model.named_parameters():
            if any(fnmatch.fnmatchcase(name, p.strip()) for p in (case.get("freeze") or "").split(",")):
                parameter.requires_grad_(False)
        how = case["checkpointing"]
        if how.startswith("every="):
            n = int(how[len("every="):])
            if hasattr(model, "activation_checkpointing_enable"):
                model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=n)
            else:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
                for i, layer in enumerate(layers(model)):
                    layer.gradient_checkpointing = i % n == 0
        if how == "attention":
            for layer in layers(model):
                wrap(next(m for _, m in layer.named_children() if "Attention" in type(m).__name__))
        return model, cfg

    def keys_kept(model, classifies):
        """What from_pretrained does not convert: named as a head is (`llm_int8_skip_modules`), or found by transformers."""
        keys = ["classifier", "pre_classifier", "score"]
        if not classifies:
            try: from transformers.quantizers.base import get_keys_to_not_convert
            except ImportError: from transformers.integrations.bitsandbytes import get_keys_to_not_convert
            keys = get_keys_to_not_convert(model)
        return keys + list(model._keep_in_fp32_modules or [])

    def is_kept(name, keys):
        try: from transformers.quantizers.quantizers_utils import should_convert_module
        except ImportError:  # as `_replace_with_bnb_linear` has it
            return name.split(".")[-1] in keys or any(key + "." in name or key == name for key in keys)
        return not should_convert_module(name, keys)

    class Hidden(torch.nn.Module):
        """A layer that the oracle does not take for one to quantize."""

    bare = oracle.quantize
    def quantize(model, case):
        if case["quantize"] == "int8": no_outliers()
        keys = keys_kept(model, case["task"].endswith("classification"))
        kept = [m for name, m in model.named_modules() if type(m) is torch.nn.Linear and is_kept(name, keys)]
        for module in kept: module.__class__ = Hidden
        model = bare(model, case)
        for module in kept: module.__class__ = torch.nn.Linear
        return model

    def as_classifier(case):
        import peft
        config = peft.LoraConfig
        trained = {"sequence-classification": dict(task_type="SEQ_CLS"), "token-classification": dict(task_type="TOKEN_CLS"),
                   "image-classification": dict(modules_to_save=["classifier"])}[case["task"]]
        if case["lora"]["target_modules"] == "all-linear":
            trained["exclude_modules"] = ["classifier", "pre_classifier", "score"]
        peft.LoraConfig = lambda **k: config(**trained, **k)

    def all_are_labelled():
        """`(labels >= 0).nonzero()` depends on values; its scratch of some hundred bytes is left out."""
        nonzero = torch.Tensor.nonzero
        def every(x, *a, **k):
            if x.is_cuda and x.dtype == torch.bool and x.dim() == 1:
                return torch.empty(x.numel(), 1, dtype=torch.long, device=x.device)
            return nonzero(x, *a, **k)
        torch.Tensor.nonzero = every

    def no_outliers():
        """No kernel writes how many columns of Linear8bitLt's input have outliers: none has, with the scratch of looking."""
        argwhere = torch.argwhere
        def none(x):
            if not (x.is_cuda and x.dtype == torch.bool and x.dim() == 1): return argwhere(x)
            scratch = lambda n: torch.empty(n, dtype=torch.uint8, device=x.device)
            count = scratch(4)
            scratch(1), scratch(1023)
            del count
            return torch.empty(0, 1, dtype=torch.long, device=x.device)
        torch.argwhere = none

    def reads_false():
        """A bool that no kernel wrote is what lay there before, a number that was copied too: not by chance but always false."""
        truth = torch.Tensor.__bool__
        torch.Tensor.__bool__ = lambda x: False if x.is_cuda and x.dtype == torch.bool else truth(x)

    def never_skip():
        """No kernel writes whether a gradient was infinite: what is read there is chance, and no step is left out."""
        def step(self, optimizer, state, *a, **k):
            sum(v.item() for v in state["found_inf_per_device"].values())
            return optimizer.step(*a, **k)
        torch.amp.GradScaler._maybe_opt_step = step

    def take_dtype():
        """Before transformers 4.56 `dtype` was `torch_dtype`."""
        import transformers
        from transformers.models.auto.auto_factory import _BaseAutoModelClass as auto
        if tuple(map(int, transformers.__version__.split(".")[:2])) < (4, 56):
            def patch(auto):
                plain = auto.from_config.__func__
                def from_config(cls, config, dtype=None, torch_dtype=None, **k):
                    return plain(cls, config, torch_dtype=dtype or torch_dtype, **k)
                auto.from_config = classmethod(from_config)
            # In 4.44 each class has a copy of its own.
            for auto in {auto, *(getattr(transformers, name) for name in oracle.AUTO.values())}:
                if "from_config" in vars(auto): patch(auto)

    def keep_float32():
        """`from_pretrained` keeps some of a model out of float16 (T5's `wo`), `from_config` does not."""
        from transformers.models.auto.auto_factory import _BaseAutoModelClass as auto
        plain = auto.from_config.__func__
        def from_config(cls, config, dtype=None, **k):
            model = plain(cls, config, dtype=dtype, **k)
            for name, module in model.named_modules():
                if dtype == torch.float16 and name.split(".")[-1] in (model._keep_in_fp32_modules or ()):
                    module.float()
            return model
        auto.from_config = classmethod(from_config)

    def wrap(module):
        forward = module.forward
        module.forward = lambda *a, **k: torch.utils.checkpoint.checkpoint(forward, *a, use_reentrant=False, **k)

    def make_optimizer(case, params):
        made = optimizer(dict(case, optimizer=case["optimizer"].removesuffix("-hf")), params)
        if case["optimizer"].endswith("-hf"):
            import bitsandbytes
            for module in embeddings:
                bitsandbytes.optim.GlobalOptimManager.get_instance().register_module_override(module, "weight", {"optim_bits": 32})
        return made

    oracle.build, oracle.quantize, oracle.make_optimizer = build, quantize, make_optimizer
    oracle.AUTO["token-classification"] = "AutoModelForTokenClassification"
    batch = oracle.make_batch

    def make_batch(case, cfg):
        if case["quantize"] != "none" and case["task"] == "image-classification":
            case = dict(case, precision="fp32")
        if case["task"] == "speech-seq2seq":
            half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(case["precision"], torch.float32)
            if case["quantize"] != "none": half = torch.float32
            features = torch.empty(case["micro_batch"], cfg.num_mel_bins, 2 * cfg.max_source_positions).to("cuda").to(half)
            return dict(input_features=features, labels=torch.empty(case["micro_batch"], case["seq_len"], dtype=torch.long).to("cuda"))
        if case.get("label_len"):
            ids = lambda n: torch.empty(case["micro_batch"], n, dtype=torch.long).to("cuda")
            mask = {} if case["attention_mask"] == "none" else dict(attention_mask=ids(case["seq_len"]))
            return dict(input_ids=ids(case["seq_len"]), labels=ids(case["label_len"]), **mask)
        if case["task"] == "token-classification":
            return batch(dict(case, task="masked-lm"), cfg)
        problem = case["config"].get("problem_type")
        number = problem == "regression" or cfg.num_labels == 1
        several = problem == "multi_label_classification"
        if not case["task"] in ("sequence-classification", "image-classification") or not (number or several):
            return batch(case, cfg)
        samples, tokens = case["micro_batch"], case["seq_len"]
        ids = lambda: torch.empty(samples, tokens, dtype=torch.long).to("cuda")
        mask = {} if case["attention_mask"] == "none" else dict(attention_mask=ids())
        sizes = (samples,) if cfg.num_labels == 1 else (samples, cfg.num_labels)
        if case["task"] == "image-classification":
            return dict(batch(case, cfg), labels=torch.empty(*sizes).to("cuda"))
        return dict(input_ids=ids(), labels=torch.empty(*sizes).to("cuda"), **mask)

    oracle.make_batch = make_batch
    never_skip()
    take_dtype()
    keep_float32()
    return oracle


def layers(model):
    try: from transformers.modeling_layers import GradientCheckpointingLayer
    except ImportError:  # before transformers 4.52 a layer is known by its name
        return [m for m in model.modules() if type(m).__name__.endswith(("DecoderLayer", "GPT2Block", "NeoXLayer"))]
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]


def load():
    """The oracle with the switches; replaces this process by one with the driver preloaded, once."""
    import importlib.util
    folder = os.environ.get("ORACLE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../shared/oracle"))
    spec = importlib.util.spec_from_file_location("oracle", os.path.join(folder, "oracle.py"))
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    return add(oracle)


if __name__ == "__main__":  # switches.py cases.jsonl > rows.jsonl: as oracle.py, with the switches
    import json
    import sys
    oracle = load()
    for line in open(sys.argv[1]):
        if line.strip():
            row = oracle.run(json.loads(line))
            print(json.dumps(row), flush=True)
            r = row["result"]
            print(row.get("id"), r.get("error", (r.get("peak_allocated"), r.get("peak_reserved"), r.get("min_capacity"))), file=sys.stderr)
