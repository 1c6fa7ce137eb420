"""diffusers: a text-conditioned UNet learns to take noise away; bf16 autocast, checkpointing, clipping, an averaged model."""
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel

unet = UNet2DConditionModel(sample_size=32, block_out_channels=(128, 256, 256), cross_attention_dim=256, attention_head_dim=8,
                            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")).cuda()
unet.enable_gradient_checkpointing()
unet.train()
average = EMAModel(unet.parameters(), model_cls=UNet2DConditionModel, model_config=unet.config)
noise_of = DDPMScheduler(num_train_timesteps=1000)
optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4)
for step in range(3):
    latents, words = torch.randn(4, 4, 32, 32).cuda(), torch.randn(4, 77, 256).cuda()
    noise, times = torch.randn_like(latents), torch.randint(0, 1000, (4,)).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        predicted = unet(noise_of.add_noise(latents, noise, times), times, encoder_hidden_states=words).sample
        loss = torch.nn.functional.mse_loss(predicted.float(), noise)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    average.step(unet.parameters())
print("loss", loss.item())
