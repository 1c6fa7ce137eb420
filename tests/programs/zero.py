"""DeepSpeed's ZeRO under torchrun: `zero.py STAGE [PRECISION [offload]]`, a GPT-2 with AdamW by PyTorch, accumulation and clipping."""
import sys
import deepspeed
import torch
from transformers import GPT2Config, GPT2LMHeadModel

stage, precision = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "bf16"
settings = {
    "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 2, "gradient_clipping": 1.0,
    precision: {"enabled": True}, "zero_optimization": {"stage": stage}, "zero_allow_untested_optimizer": True,
}
if "offload" in sys.argv:
    # AdamW by PyTorch, on the host: DeepSpeed's own needs a compiler.
    host = {"device": "cpu", "pin_memory": True}
    settings["zero_optimization"] |= {"offload_optimizer": host, "offload_param": host}
    settings["zero_force_ds_cpu_optimizer"] = False
deepspeed.init_distributed("nccl")
with deepspeed.zero.Init(config_dict_or_path=settings, enabled=stage == 3):
    model = GPT2LMHeadModel(GPT2Config(n_layer=6, use_cache=False))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
for micro_step in range(6):
    tokens = torch.randint(0, 50257, (2, 256)).to(engine.device)
    loss = engine(input_ids=tokens, labels=tokens).loss
    engine.backward(loss)
    engine.step()
assert engine.global_steps == 3 and getattr(engine, "skipped_steps", 0) == 0, (engine.global_steps, engine.skipped_steps)
print("stage", stage, "rank", torch.distributed.get_rank(), "loss", loss.item(), torch.cuda.max_memory_allocated())
torch.distributed.destroy_process_group()
