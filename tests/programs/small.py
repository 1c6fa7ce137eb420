"""Small programs for many runs: lengths, checkpointed, bert, t5 or vit. Each takes a second once its imports are there."""
import random
import sys
import torch

kind = sys.argv[1]
if kind == "lengths":  # batches of every length: the caching allocator splits, keeps and gives back
    from transformers import GPT2Config, GPT2LMHeadModel
    model = GPT2LMHeadModel(GPT2Config(n_layer=4, n_embd=512, n_head=8, vocab_size=8000)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    lengths = random.Random(0).sample(range(64, 1024, 8), 12)
elif kind == "checkpointed":
    from transformers import LlamaConfig, LlamaForCausalLM
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8000, hidden_size=512, intermediate_size=1408, num_hidden_layers=6,
                                         num_attention_heads=8, use_cache=False)).to("cuda", torch.bfloat16)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    lengths = [1024, 1024, 1024]
elif kind == "bert":
    from transformers import Adafactor, BertConfig, BertForMaskedLM
    config = BertConfig(num_hidden_layers=4, hidden_size=512, intermediate_size=2048, num_attention_heads=8)
    model = BertForMaskedLM(config).cuda()
    optimizer = Adafactor(model.parameters(), scale_parameter=False, relative_step=False, lr=1e-4)
    lengths = [512, 384, 512]
elif kind == "t5":
    from transformers import T5Config, T5ForConditionalGeneration
    model = T5ForConditionalGeneration(T5Config(num_layers=3, d_ff=1024, decoder_start_token_id=0)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    lengths = [512, 256, 512]
elif kind == "vit":
    from transformers import ViTConfig, ViTForImageClassification
    model = ViTForImageClassification(ViTConfig(num_hidden_layers=4, image_size=224)).cuda()
    optimizer = torch.optim.NAdam(model.parameters())
    lengths = [8, 5, 8]  # images
else:
    sys.exit(f"no such program: {kind}")
model.train()
for length in lengths:
    if kind == "vit":
        words = {"pixel_values": torch.randn(length, 3, 224, 224).to("cuda"), "labels": torch.ones(length, dtype=torch.long).to("cuda")}
    else:
        tokens = torch.randint(0, 8000, (4, length)).to("cuda")
        words = {"input_ids": tokens, "labels": tokens}
    with torch.autocast("cuda", torch.bfloat16, enabled=kind in ("lengths", "bert")):
        loss = model(**words).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print("loss", loss.item())
