//! What other programs write, as model or setup: a Hugging Face `config.json`, installed versions.
//!
//! Unknown keys are ignored, because they are other people's; missing ones get transformers'
//! default or are named. Nothing here runs another program or asks a network.

mod bart;
pub mod config_json;
mod convnext;
mod deberta;
mod decoder;
mod defaults;
mod encoder;
mod encoding;
pub mod error;
mod experts;
mod fields;
pub mod framework;
mod gpt2;
mod image;
mod labels;
mod modernbert;
mod opt;
mod resnet;
mod slips;
pub mod source;
mod swin;
mod t5;
pub mod versions;
mod vit;
mod whisper;
mod windows;
