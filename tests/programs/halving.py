"""HF Trainer with `auto_find_batch_size`: begins with a batch that no card takes, catches out of memory and goes on with fewer."""
import tempfile
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

rows = [dict(input_ids=torch.arange(512), labels=torch.arange(512))] * 512
model = GPT2LMHeadModel(GPT2Config(n_layer=4, n_embd=512, n_head=8))
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(folder, per_device_train_batch_size=256, auto_find_batch_size=True, max_steps=3, bf16=True,
                                  report_to=[], save_strategy="no")
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    assert trainer._train_batch_size < 256 and trainer.state.global_step == 3
    print("batch", trainer._train_batch_size)
