"""LoRA on a Llama of 7 billion parameters, whose bf16 weights come from a safetensors file: `seven_billion.py [FOLDER]`.
The file is written sparse (zeros that take no room on disk). Says how much host memory the process had at most."""
import json
import pathlib
import struct
import sys
import tempfile
import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG = LlamaConfig(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                     num_attention_heads=32, num_key_value_heads=32, use_cache=False)


def write_sparse(folder):
    """Writes the model as `save_pretrained` would; returns the bytes of its weights."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LlamaForCausalLM(CONFIG).state_dict().items()}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape.numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    CONFIG.save_pretrained(folder)
    return end


def train(folder, weights):
    model = LlamaForCausalLM.from_pretrained(folder, torch_dtype=torch.bfloat16, device_map="cuda")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for step in range(2):
        tokens = torch.randint(0, 32000, (1, 1024)).to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print("step", step, "loss", loss.item(), flush=True)
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    most = int(status["VmHWM"].split()[0]) << 10
    print(f"host memory at most {most / 2**30:.2f} GiB, weights {weights / 2**30:.2f} GiB", flush=True)
    assert most <= weights


with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
    train(folder, write_sparse(pathlib.Path(folder)))
