"""TRL with a tokenizer and a Llama made here: `preferences.py sft` is SFTTrainer with DoRA, `dpo` DPOTrainer with its reference model."""
import sys
import tempfile
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

words = [f"w{i}" for i in range(500)]
vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
model = LlamaForCausalLM(LlamaConfig(hidden_size=512, num_hidden_layers=4, intermediate_size=1376, num_attention_heads=8,
                                     vocab_size=32000, pad_token_id=0, eos_token_id=1))
text = " ".join(words[:400])
with tempfile.TemporaryDirectory() as folder:
    usual = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=3, bf16=True, max_length=512,
                 gradient_checkpointing=False, report_to=[])
    if sys.argv[1] == "sft":
        data = Dataset.from_list([{"text": text}] * 64)
        adapters = LoraConfig(r=8, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM")
        trainer = SFTTrainer(model, SFTConfig(folder, **usual), train_dataset=data, processing_class=tokenizer, peft_config=adapters)
    else:
        # The reference is loaded by the name that the model came from.
        model.save_pretrained(f"{folder}/model")
        data = Dataset.from_list([{"prompt": " ".join(words[:100]), "chosen": f" {text}", "rejected": f" {text}"}] * 64)
        trainer = DPOTrainer(f"{folder}/model", args=DPOConfig(folder, **usual), train_dataset=data, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 3, trainer.state.global_step
