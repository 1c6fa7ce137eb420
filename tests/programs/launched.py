"""accelerate's FSDP2 by a configuration file (`launched.yaml`): bf16, layers wrapped by class, checkpointing, clipping."""
import torch
from accelerate import Accelerator
from transformers import LlamaConfig, LlamaForCausalLM

accelerator = Accelerator()
model = LlamaForCausalLM(LlamaConfig(hidden_size=512, num_hidden_layers=4, intermediate_size=1376, num_attention_heads=8,
                                     vocab_size=8192, use_cache=False))
optimizer = torch.optim.AdamW(model.parameters())
rows = [{"input_ids": torch.arange(256), "labels": torch.arange(256)}] * 64
model, optimizer, batches = accelerator.prepare(model, optimizer, torch.utils.data.DataLoader(rows, batch_size=4))
steps = 0
for steps, batch in enumerate(batches, 1):
    accelerator.backward(model(**batch).loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
assert steps == 4 and type(model).__name__ == "FSDPLlamaForCausalLM", (steps, type(model))
print("rank", accelerator.process_index, torch.cuda.max_memory_allocated())
accelerator.end_training()
