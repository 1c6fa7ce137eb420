//! What other programs write, as model or setup: a Hugging Face `config.json`, installed versions.
