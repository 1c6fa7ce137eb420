"""PyTorch aborts the process after the program's end: a backward pass that Python's end meets in a thread of autograd's, which
then asks for Python's lock within a destructor (pytorch/pytorch issue 38228). By chance it happens to any program that ends
right after a backward pass on a loaded machine, on any driver; here always."""
import threading
import time
import torch


class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        begun.set()
        time.sleep(1)
        return gradient * 2


begun = threading.Event()
x = torch.ones(4, device="cuda", requires_grad=True)
threading.Thread(target=lambda: Slow.apply(x).sum().backward(), daemon=True).start()
begun.wait()
