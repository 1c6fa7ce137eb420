"""torch.compile of a small Llama: inductor and Triton."""
import torch
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=2,
                     num_attention_heads=16, num_key_value_heads=16, use_cache=False)
model = LlamaForCausalLM(config).cuda()
compiled = torch.compile(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
for step in range(2):
    tokens = torch.randint(0, 32000, (2, 512)).to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        loss = compiled(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
