"""torchvision's detection: Faster R-CNN (ResNet-50, FPN) on images of unequal sizes, as its reference script trains it."""
import torch
import torchvision

model = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).cuda()
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02, momentum=0.9, weight_decay=1e-4)
model.train()
for step in range(3):
    images = [torch.rand(3, 320 + 32 * extra, 416).cuda() for extra in range(2)]
    targets = [{"boxes": torch.tensor([[10.0, 20.0, 200.0, 180.0], [50.0, 60.0, 120.0, 300.0]]).cuda(),
                "labels": torch.tensor([1, 7]).cuda()} for _ in images]
    losses = model(images, targets)
    loss = sum(losses.values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print({name: value.item() for name, value in losses.items()})
