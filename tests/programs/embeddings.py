"""sentence-transformers: its trainer with pairs, bf16, a BERT and a vocabulary made here."""
import pathlib
import tempfile
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
from transformers import BertConfig, BertModel, BertTokenizerFast

words = [f"w{i}" for i in range(1000)]
with tempfile.TemporaryDirectory() as folder:
    vocabulary = pathlib.Path(folder, "vocab.txt")
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
    BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=6, intermediate_size=1536)).save_pretrained(folder)
    model = SentenceTransformer(folder, device="cuda")
    pairs = Dataset.from_list([{"anchor": " ".join(words[:65]), "positive": " ".join(words[65:130])}] * 128)
    arguments = SentenceTransformerTrainingArguments(f"{folder}/out", per_device_train_batch_size=16, max_steps=3, bf16=True,
                                                     report_to=[], save_strategy="no")
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=pairs, loss=losses.MultipleNegativesRankingLoss(model))
    trainer.train()
    assert trainer.state.global_step == 3 and model.encode(["w1 w2"]).shape == (1, 384)
