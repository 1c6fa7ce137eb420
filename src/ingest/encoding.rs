//! What the bytes of a file are where they are no JSON: another format, or text in another encoding.

use crate::ingest::config_json::LARGEST_FILE_BYTES;

/// Names the format of a file that is not text, by its first bytes.
pub(super) fn binary_format(bytes: &[u8]) -> Option<&'static str> {
    // A safetensors file begins with the length of its JSON header, in 8 bytes.
    let header = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    if bytes.get(8) == Some(&b'{') && header.is_some_and(|length| length < 1 << 32) {
        return Some("a safetensors file");
    }
    const MAGIC: [(&[u8], &str); 6] = [
        (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint, perhaps)"),
        (b"GGUF", "a GGUF file"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x80", "a Python pickle (an old PyTorch checkpoint, perhaps)"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"version https://git-lfs", "a Git LFS pointer, whose content was not downloaded"),
    ];
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(format);
    }
    // The end may be cut inside a character, where the file is larger than what was read.
    let broken = match std::str::from_utf8(bytes) {
        Ok(_) => false,
        Err(e) => e.error_len().is_some() || bytes.len() as u64 <= LARGEST_FILE_BYTES,
    };
    (broken || bytes.contains(&0)).then_some("a binary file")
}

/// Says how a text is encoded where it is JSON but for its encoding.
pub(super) fn other_encoding(bytes: &[u8]) -> Option<String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Some("UTF-16, as Windows PowerShell writes".to_owned());
    }
    let error = std::str::from_utf8(bytes).err()?;
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
    (is_object && !bytes.contains(&0)).then(|| format!("line {line} has bytes of another encoding"))
}
