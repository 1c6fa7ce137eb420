"""`torch.utils.checkpoint` with AMP in fp16, workers and pinned memory, and PyTorch's memory history of it all."""
import pickle
import tempfile
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

torch.cuda.memory._record_memory_history(max_entries=100_000)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True) for _ in range(6))
        self.head = nn.Linear(512, 10)

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.head(x.mean(1))


model = Encoder().cuda()
optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cuda")
data = TensorDataset(torch.rand(64, 128, 512), torch.randint(0, 10, (64,)))
for inputs, labels in DataLoader(data, 16, num_workers=2, pin_memory=True):
    with torch.autocast("cuda", torch.float16):
        logits = model(inputs.to("cuda", non_blocking=True))
        loss = nn.functional.cross_entropy(logits, labels.to("cuda", non_blocking=True))
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
with tempfile.NamedTemporaryFile() as file:
    torch.cuda.memory._dump_snapshot(file.name)
    history = pickle.load(file)
assert len(history["device_traces"][0]) > 1000 and history["segments"]
print(torch.cuda.max_memory_allocated())
