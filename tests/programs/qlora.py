"""QLoRA: a small Llama in nf4 with double quantisation (bitsandbytes), adapters by peft."""
import bitsandbytes as bnb
import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=8,
                     num_attention_heads=16, num_key_value_heads=16, use_cache=False)
model = LlamaForCausalLM(config).to(torch.bfloat16)
head = model.get_output_embeddings()
for parent in list(model.modules()):
    for name, module in list(parent.named_children()):
        if isinstance(module, torch.nn.Linear) and module is not head:
            four = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False, quant_type="nf4",
                                     compute_dtype=torch.bfloat16, compress_statistics=True)
            four.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4",
                                            compress_statistics=True)
            setattr(parent, name, four)
model.is_loaded_in_4bit = True
model = peft.prepare_model_for_kbit_training(model.to("cuda"))
model = peft.get_peft_model(model, peft.LoraConfig(r=16, target_modules="all-linear", lora_dropout=0.05))
optimizer = bnb.optim.PagedAdamW8bit([p for p in model.parameters() if p.requires_grad], lr=1e-4)
for step in range(3):
    tokens = torch.randint(0, 32000, (2, 512)).to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print("loss", loss.item())
