"""A plain loop: DataLoader workers, pinned memory, autocast fp16, GradScaler, clipping, convolutions, a checkpoint."""
import tempfile
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
        self.body = nn.Sequential(*[nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.ReLU())
                                    for _ in range(8)])
        self.head = nn.Linear(64, 1000)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


model = Model().cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scaler = torch.amp.GradScaler("cuda")
data = torch.utils.data.TensorDataset(torch.randn(64, 3, 224, 224), torch.randint(0, 1000, (64,)))
for x, y in torch.utils.data.DataLoader(data, batch_size=16, num_workers=2, pin_memory=True):
    x, y = x.cuda(non_blocking=True), y.cuda(non_blocking=True)
    with torch.autocast("cuda", torch.float16):
        loss = nn.functional.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
assert optimizer.state, "the scaler skipped every step"
with tempfile.TemporaryFile() as file:
    torch.save(model.state_dict(), file)
print("loss", loss.item())
