"""Lightning's Trainer: 16-mixed, clipping, accumulation, validation, a checkpoint; on several devices by its own DDP launcher.

    python lightning_mixed.py [DEVICES]
"""
import sys
import tempfile
import lightning
import torch
from torch import nn


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(),
                                  nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(128 * 64, 1024), nn.ReLU(), nn.Linear(1024, 10))

    def loss(self, batch):
        images, labels = batch
        return nn.functional.cross_entropy(self.body(images), labels)

    def training_step(self, batch, _):
        loss = self.loss(batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, _):
        self.log("val_loss", self.loss(batch), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def batches(count):
    data = torch.utils.data.TensorDataset(torch.randn(count, 3, 128, 128), torch.randint(0, 10, (count,)))
    return torch.utils.data.DataLoader(data, batch_size=8, num_workers=1, pin_memory=True)


if __name__ == "__main__":
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(accelerator="gpu", devices=devices, strategy="ddp" if devices > 1 else "auto",
                                    precision="16-mixed", max_steps=3, accumulate_grad_batches=2, gradient_clip_val=1.0,
                                    default_root_dir=folder, logger=False, log_every_n_steps=1)
        trainer.fit(Classifier(), batches(64 * devices), batches(16 * devices))
        assert trainer.global_step == 3, trainer.global_step
