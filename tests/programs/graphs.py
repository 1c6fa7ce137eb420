"""CUDA graphs: torch.compile(mode="reduce-overhead"), and a capture by hand."""
import torch
from torch import nn

model = nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.LayerNorm(4096), nn.Linear(4096, 1024)).cuda()
compiled = torch.compile(model, mode="reduce-overhead")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    compiled(torch.randn(4096, 1024, device="cuda")).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
graph, x = torch.cuda.CUDAGraph(), torch.randn(64, 1024, device="cuda")
with torch.cuda.graph(graph):
    y = model(x)
graph.replay()
try:
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        model(x).sum().item()
    raise SystemExit("reading a value while a graph is captured went through")
except RuntimeError as error:
    assert "captur" in str(error), error
