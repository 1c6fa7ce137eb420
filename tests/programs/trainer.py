"""HF Trainer with LoRA: bf16, accumulation, fused AdamW, clipping, an evaluation, a checkpoint."""
import tempfile
import peft
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

rows = [dict(input_ids=r, labels=r, attention_mask=torch.ones_like(r)) for r in torch.randint(0, 50257, (32, 128))]
model = GPT2LMHeadModel(GPT2Config(n_layer=6))
model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=["c_attn"]))
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(folder, per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=3,
                                  bf16=True, optim="adamw_torch_fused", report_to=[], save_steps=2, logging_steps=1,
                                  eval_strategy="steps", eval_steps=2)
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:8])
    print(trainer.train().metrics["train_loss"])
