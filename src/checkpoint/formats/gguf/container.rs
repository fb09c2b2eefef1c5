//! The container, version 3 (ggml's docs/gguf.md): magic number and counts, metadata, the tensors' names, shapes and
//! offsets, then their data, aligned to 32 bytes. Numbers are little-endian.

use super::encoding::Encoding;

const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;

/// Alignment of tensors in bytes; readers assume 32 by default.
const ALIGNMENT: u64 = 32;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    I32s(Vec<i32>),
    Strings(Vec<String>),
}

/// A tensor's description, without its data.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// llama.cpp's name.
    pub name: String,
    /// ggml's `ne`: innermost dimension first.
    pub shape: Vec<u64>,
    /// Number format.
    pub encoding: Encoding,
}

impl TensorInfo {
    /// Size of its data in bytes, without padding.
    pub fn bytes(&self) -> u64 {
        self.encoding.bytes(self.shape.iter().product())
    }
}

/// The bytes before the data of `tensors`, which follows in the same order, each tensor [`padded`].
pub fn header<'a>(
    metadata: &[(&str, MetadataValue)],
    tensors: impl ExactSizeIterator<Item = &'a TensorInfo>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_string(&mut out, key);
        put_value(&mut out, value);
    }
    let mut offset = 0_u64;
    for tensor in tensors {
        put_string(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        out.extend(tensor.shape.iter().flat_map(|n| n.to_le_bytes()));
        out.extend(tensor.encoding.code().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += padded(tensor.bytes());
    }
    out.resize(padded(out.len() as u64) as usize, 0);
    out
}

/// A size rounded up to the alignment.
pub fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Writes a value's type and the value.
fn put_value(out: &mut Vec<u8>, value: &MetadataValue) {
    const ARRAY: u32 = 9;
    let kind: u32 = match value {
        MetadataValue::U32(_) => 4,
        MetadataValue::I32s(_) => 5,
        MetadataValue::F32(_) => 6,
        MetadataValue::Bool(_) => 7,
        MetadataValue::String(_) | MetadataValue::Strings(_) => 8,
    };
    let length = match value {
        MetadataValue::I32s(numbers) => Some(numbers.len()),
        MetadataValue::Strings(texts) => Some(texts.len()),
        _ => None,
    };
    if length.is_some() {
        out.extend(ARRAY.to_le_bytes());
    }
    out.extend(kind.to_le_bytes());
    if let Some(length) = length {
        out.extend((length as u64).to_le_bytes());
    }
    match value {
        MetadataValue::U32(number) => out.extend(number.to_le_bytes()),
        MetadataValue::F32(number) => out.extend(number.to_le_bytes()),
        MetadataValue::Bool(yes) => out.push(u8::from(*yes)),
        MetadataValue::String(text) => put_string(out, text),
        MetadataValue::I32s(numbers) => out.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
        MetadataValue::Strings(texts) => texts.iter().for_each(|text| put_string(out, text)),
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
