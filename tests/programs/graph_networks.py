"""torch_geometric: a GCN and a GAT by lists of edges, and a GCN by a sparse matrix (cuSPARSE)."""
import torch
from torch.nn import functional as F
from torch_geometric.nn import GATConv, GCNConv

NODES, EDGES = 10000, 80000
features, labels = torch.rand(NODES, 128, device="cuda"), torch.randint(0, 10, (NODES,), device="cuda")
edges = torch.randint(0, NODES, (2, EDGES))
matrix = torch.sparse_coo_tensor(edges, torch.ones(EDGES), (NODES, NODES)).to_sparse_csr().cuda()


class Network(torch.nn.Module):
    def __init__(self, layer, **options):
        super().__init__()
        self.first, self.second = layer(128, 64, **options), layer(64, 10, **options)

    def forward(self, x, graph):
        return self.second(F.relu(self.first(x, graph)), graph)


for network, graph in [(Network(GCNConv), edges.cuda()), (Network(GATConv), edges.cuda()), (Network(GCNConv, normalize=False), matrix)]:
    network = network.cuda()
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(3):
        F.cross_entropy(network(features, graph), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    print(type(network.first).__name__, torch.cuda.max_memory_allocated())
