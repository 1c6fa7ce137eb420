//! Models that classify images: one image size, one label each.

pub mod conv;
pub mod convnext;
mod head;
pub mod resnet;
pub mod swin;
pub mod vit;
