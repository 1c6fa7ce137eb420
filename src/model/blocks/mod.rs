//! What decoders are built from: linear layers, norms, attention, rotary embeddings, feed-forward
//! blocks. Each is written as transformers' Python runs.

pub mod activation;
pub mod attention;
pub mod expert_list;
pub mod experts;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod rotary;
pub mod sent;
