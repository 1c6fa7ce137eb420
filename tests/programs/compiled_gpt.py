"""torch.compile of a plain GPT under bf16 autocast, with accumulation and a fused optimizer: inductor and Triton."""
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width=512, heads=8):
        super().__init__()
        self.heads, self.before, self.after = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.qkv(self.before(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.after(x))


model = nn.Sequential(nn.Embedding(8000, 512), *[Block() for _ in range(4)], nn.Linear(512, 8000)).cuda()
compiled = torch.compile(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
for step in range(2):
    for _ in range(2):
        tokens = torch.randint(0, 8000, (4, 512)).to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            out = compiled(tokens)
        loss = nn.functional.cross_entropy(out.flatten(0, 1).float(), tokens.flatten())
        (loss / 2).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
