"""torchao: `low_bits.py optimizers` steps 8-bit and 4-bit AdamW and one on the host; `float8` trains linear layers in float8, compiled."""
import sys
import torch
from torchao.float8 import convert_to_float8_training
from torchao.optim import AdamW4bit, AdamW8bit, CPUOffloadOptimizer


def network():
    return torch.nn.Sequential(*[torch.nn.Linear(1024, 1024, bias=False) for _ in range(8)]).to("cuda", torch.bfloat16)


def steps(model, optimizer):
    for step in range(3):
        model(torch.rand(512, 1024, device="cuda", dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    print(type(optimizer).__name__, torch.cuda.max_memory_allocated())


if sys.argv[1] == "float8":
    model = convert_to_float8_training(network())
    assert "Float8Linear" in str(model), model
    steps(torch.compile(model), torch.optim.AdamW(model.parameters()))
else:
    for make in [AdamW8bit, AdamW4bit, lambda parameters: CPUOffloadOptimizer(parameters, torch.optim.AdamW)]:
        model = network()
        steps(model, make(model.parameters()))
