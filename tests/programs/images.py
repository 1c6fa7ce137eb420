"""timm: EfficientNet in channels-last with mixup, an averaged model and timm's own gradient scaler; then a ViT, checkpointed."""
import timm
import timm.data
import timm.loss
import timm.optim
import timm.utils
import torch

MIXUP = timm.data.Mixup(mixup_alpha=0.2, cutmix_alpha=1.0, num_classes=1000, label_smoothing=0.1)


def train(name, checkpointing):
    model = timm.create_model(name, drop_path_rate=0.1).cuda().to(memory_format=torch.channels_last)
    model.set_grad_checkpointing(checkpointing)
    average = timm.utils.ModelEmaV3(model, decay=0.999)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    scaler, criterion = timm.utils.NativeScaler(), timm.loss.SoftTargetCrossEntropy()
    for step in range(3):
        images = torch.randn(16, 3, 224, 224).cuda(non_blocking=True).contiguous(memory_format=torch.channels_last)
        images, labels = MIXUP(images, torch.randint(0, 1000, (16,)).cuda())
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(images), labels)
        scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())
        optimizer.zero_grad()
        average.update(model, step=step)
    assert optimizer.state, "the scaler skipped every step"
    print(name, "loss", loss.item())


train("efficientnet_b0", False)
train("vit_small_patch16_224", True)
