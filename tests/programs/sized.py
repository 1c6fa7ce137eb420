"""Small trainings that take their sizes from the environment, as `oomph trial` sets them: OOMPH_MICRO_BATCH and
OOMPH_ACCUMULATION_STEPS. `sized.py KIND`: convolutions, checkpointed, lengths or pictures."""
import os
import random
import sys
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

kind, batch, accumulate = sys.argv[1], int(os.environ["OOMPH_MICRO_BATCH"]), int(os.environ["OOMPH_ACCUMULATION_STEPS"])


def block(before, after, stride=1):
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class Encoder(nn.Module):
    """A transformer's encoder, with its layers computed anew in the backward pass where wanted."""

    def __init__(self, layers, again):
        super().__init__()
        self.tokens, self.again = nn.Embedding(8000, 512), again
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True) for _ in range(layers))
        self.head = nn.Linear(512, 8000)

    def forward(self, tokens):
        x = self.tokens(tokens)
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.again else layer(x)
        return self.head(x)


class Pictures(nn.Module):
    """A picture from a picture: down, up, and what was there before beside it."""

    def __init__(self):
        super().__init__()
        self.first, self.down, self.deep = block(3, 32), block(32, 64, 2), block(64, 64)
        self.up, self.last = nn.ConvTranspose2d(64, 32, 2, 2), nn.Conv2d(64, 21, 1)

    def forward(self, x):
        first = self.first(x)
        return self.last(torch.cat([first, self.up(self.deep(self.down(first)))], 1))


if kind in ("checkpointed", "lengths"):
    model = Encoder(6, kind == "checkpointed").cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
elif kind == "convolutions":
    model = nn.Sequential(block(3, 64, 2), *[block(64, 64) for _ in range(6)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1000)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
elif kind == "pictures":
    model = Pictures().cuda()
    optimizer = torch.optim.Adam(model.parameters())
else:
    sys.exit(f"no such program: {kind}")
chance, scaler = random.Random(0), torch.amp.GradScaler("cuda", enabled=kind == "convolutions")
for step in range(3):
    for _ in range(accumulate):
        if kind in ("checkpointed", "lengths"):
            length = 512 if kind == "checkpointed" else chance.randrange(256, 513, 8)
            x = y = torch.randint(0, 8000, (batch, length)).cuda()
        else:
            x = torch.randn(batch, 3, 512, 512).cuda()
            y = torch.randint(0, 21, (batch, 512, 512) if kind == "pictures" else (batch,)).cuda()
        with torch.autocast("cuda", torch.float16 if scaler.is_enabled() else torch.bfloat16, enabled=kind != "pictures"):
            out = model(x)
        loss = nn.functional.cross_entropy(out.flatten(0, 1), y.flatten()) if out.dim() == 3 else nn.functional.cross_entropy(out, y)
        scaler.scale(loss / accumulate).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
