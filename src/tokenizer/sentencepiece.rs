//! sentencepiece's `.model` files as `tokenizer.json`: its Unigram and BPE models, and one of characters.
//!
//! A file is a `ModelProto` of sentencepiece's `sentencepiece_model.proto`, whose names are used here. Its normalization is
//! translated to Hugging Face's terms: its table of characters (`Precompiled`), the spaces that it removes and adds, and `▁`
//! for spaces. The ids are sentencepiece's with two exceptions, both in Hugging Face's library. Where two merges of a BPE
//! model make the same piece of different parts, sentencepiece merges the first in the text, the library the first in the
//! list of merges, so that a run of one letter can be split differently. And the table is applied to whole grapheme
//! clusters, so that a mark on a character that the table replaces can be lost.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::protobuf::{Field, Fields};
use super::{AddedToken, base64};

/// A score lower than that of any other segmentation, so that the piece never occurs.
pub const WORST_SCORE: f64 = -10_000.0;

/// `▁`, which stands for a space.
const SPACE: char = '▁';

// `TrainerSpec.ModelType`.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;
const CHARACTERS: u64 = 4;

/// `SentencePiece.Type`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl PieceKind {
    fn of(number: u64) -> Result<Self> {
        Ok(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => bail!("a piece is of the unknown type {number}"),
        })
    }

    /// Whether it can occur in a text.
    fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined)
    }
}

struct Piece {
    text: String,
    score: f32,
    kind: PieceKind,
}

/// A model, with sentencepiece's defaults for fields that the file leaves out.
struct SentencePieceModel {
    pieces: Vec<Piece>,
    kind: u64,
    byte_fallback: bool,
    precompiled_charsmap: Vec<u8>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

/// Whether a file begins with a piece, as each of sentencepiece's does.
pub fn is_sentencepiece_model(bytes: &[u8]) -> bool {
    matches!(
        Fields(bytes).next(),
        Some(Ok((1, Field::Bytes(piece)))) if matches!(Fields(piece).next(), Some(Ok((1, Field::Bytes(_)))))
    )
}

/// The `tokenizer.json` of a model.
///
/// # Errors
/// A truncated or invalid file, a model of whole words, or one that writes spaces after words.
pub fn to_tokenizer_json(bytes: &[u8]) -> Result<Value> {
    let model = SentencePieceModel::read(bytes).context("the sentencepiece model is broken")?;
    let of_kind = |kind: PieceKind| {
        let pieces = (0u32..).zip(&model.pieces);
        pieces.filter(move |(_, piece)| piece.kind == kind)
    };
    let unknown = of_kind(PieceKind::Unknown).map(|(id, _)| id).next();
    let special = of_kind(PieceKind::Unknown).chain(of_kind(PieceKind::Control));
    let mut special: Vec<AddedToken> = special
        .map(|(id, piece)| AddedToken::special(&piece.text, id))
        .collect();
    special.sort();
    let user_defined: Vec<&str> = of_kind(PieceKind::UserDefined)
        .map(|(_, piece)| piece.text.as_str())
        .collect();
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special.iter().map(AddedToken::to_json).collect::<Vec<_>>(),
        "normalizer": { "type": "Sequence", "normalizers": model.normalizers() },
        "pre_tokenizer": model.pre_tokenizer(user_defined.clone()),
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": model.decoders() },
        "model": match model.kind {
            UNIGRAM => model.unigram(unknown),
            _ => model.bpe(unknown, !user_defined.is_empty())
        }
    }))
}

impl SentencePieceModel {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            kind: UNIGRAM,
            byte_fallback: false,
            precompiled_charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => model.pieces.push(Piece::read(piece)?),
                (2, Field::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (3, Field::Varint(kind)) => model.kind = kind,
                            (24, Field::Varint(1)) => bail!("it writes spaces after words, which is not supported"),
                            (35, Field::Varint(byte_fallback)) => model.byte_fallback = byte_fallback != 0,
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Field::Bytes(table)) => model.precompiled_charsmap = table.to_vec(),
                            (3, Field::Varint(add)) => model.add_dummy_prefix = add != 0,
                            (4, Field::Varint(remove)) => model.remove_extra_whitespaces = remove != 0,
                            (5, Field::Varint(escape)) => model.escape_whitespaces = escape != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let different: HashSet<&str> = model.pieces.iter().map(|piece| piece.text.as_str()).collect();
        ensure!(different.len() == model.pieces.len(), "it has a piece twice");
        ensure!(
            [UNIGRAM, BPE, CHARACTERS].contains(&model.kind),
            "it is a model of whole words; only Unigram, BPE and characters are supported"
        );
        Ok(model)
    }

    /// How a space is written: `SPACE` if white space is escaped, otherwise a space.
    fn space(&self) -> String {
        if self.escape_whitespaces {
            SPACE.into()
        } else {
            " ".into()
        }
    }

    /// In sentencepiece's order.
    fn normalizers(&self) -> Vec<Value> {
        let replace =
            |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let mut normalizers = Vec::new();
        if !self.precompiled_charsmap.is_empty() {
            let table = base64::encode(&self.precompiled_charsmap);
            normalizers.push(json!({ "type": "Precompiled", "precompiled_charsmap": table }));
        }
        if self.remove_extra_whitespaces {
            normalizers.push(replace(json!({ "Regex": r"\A +| +\z" }), ""));
            normalizers.push(replace(json!({ "Regex": " {2,}" }), " "));
        }
        if self.escape_whitespaces {
            normalizers.push(replace(json!({ "String": " " }), &self.space()));
        }
        if self.add_dummy_prefix {
            normalizers.push(json!({ "type": "Prepend", "prepend": self.space() }));
        }
        normalizers
    }

    /// User-defined pieces match before all others. Words are split where no piece crosses their border, which changes no
    /// id and keeps a long text from being one word.
    fn pre_tokenizer(&self, mut user_defined: Vec<&str>) -> Value {
        let mut parts = Vec::new();
        if !user_defined.is_empty() {
            user_defined.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
            let pieces: Vec<_> = user_defined.iter().map(|piece| fancy_regex::escape(piece)).collect();
            parts.push(json!({
                "type": "Split", "pattern": { "Regex": pieces.join("|") }, "behavior": "Isolated", "invert": false
            }));
        }
        // An unknown character costs more than the name of a byte, such as `<0x41>`: split off, it can't become part of one.
        let text = self.pieces.iter().filter(|piece| piece.kind.is_text());
        let known: HashSet<char> = text.flat_map(|piece| piece.text.chars()).collect();
        let unknown: String = "<0x123456789ABCDEF>".chars().filter(|c| !known.contains(c)).collect();
        if self.kind == UNIGRAM && self.byte_fallback && !unknown.is_empty() {
            parts.push(json!({
                "type": "Split", "pattern": { "Regex": format!("[{unknown}]") }, "behavior": "Isolated", "invert": false
            }));
        }
        let crosses = |piece: &Piece| piece.kind.is_text() && piece.text.chars().skip(1).any(|c| c == SPACE);
        if self.escape_whitespaces && !self.pieces.iter().any(crosses) {
            parts.push(json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": true }));
        }
        match parts.len() {
            0 => Value::Null,
            _ => json!({ "type": "Sequence", "pretokenizers": parts }),
        }
    }

    fn decoders(&self) -> Vec<Value> {
        let mut decoders = vec![json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " })];
        if self.byte_fallback {
            decoders.push(json!({ "type": "ByteFallback" }));
        }
        decoders.push(json!({ "type": "Fuse" }));
        if self.add_dummy_prefix {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        decoders
    }

    fn unigram(&self, unknown: Option<u32>) -> Value {
        let pieces = self.pieces.iter().map(|piece| {
            let score = if piece.kind.is_text() {
                f64::from(piece.score)
            } else {
                WORST_SCORE
            };
            json!([piece.text, score])
        });
        json!({
            "type": "Unigram", "unk_id": unknown, "byte_fallback": self.byte_fallback,
            "vocab": pieces.collect::<Vec<_>>()
        })
    }

    fn bpe(&self, unknown: Option<u32>, has_user_defined: bool) -> Value {
        let vocab: serde_json::Map<String, Value> = (0u32..)
            .zip(&self.pieces)
            .map(|(id, piece)| (piece.text.clone(), id.into()))
            .collect();
        let merges = if self.kind == BPE { self.merges() } else { Vec::new() };
        json!({
            "type": "BPE", "dropout": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "unk_token": unknown.map(|id| &self.pieces[id as usize].text), "fuse_unk": true,
            "byte_fallback": self.byte_fallback,
            // User-defined pieces are not made by merges.
            "ignore_merges": has_user_defined,
            "vocab": vocab, "merges": merges
        })
    }

    /// All pairs of pieces that make a piece, in the order of the scores of the results.
    fn merges(&self) -> Vec<[&str; 2]> {
        let normal: HashMap<&str, (f32, usize)> = self
            .pieces
            .iter()
            .enumerate()
            .filter(|(_, piece)| piece.kind == PieceKind::Normal)
            .map(|(id, piece)| (piece.text.as_str(), (piece.score, id)))
            .collect();
        let mut merges = Vec::new();
        for (&text, &(score, id)) in &normal {
            for (at, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(at);
                if normal.contains_key(left) && normal.contains_key(right) {
                    merges.push((score, id, at, [left, right]));
                }
            }
        }
        merges.sort_by(|(score, id, at, _), (other_score, other_id, other_at, _)| {
            other_score
                .total_cmp(score)
                .then(id.cmp(other_id))
                .then(at.cmp(other_at))
        });
        merges.into_iter().map(|(.., pair)| pair).collect()
    }
}

impl Piece {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut piece = Self {
            text: String::new(),
            score: 0.0,
            kind: PieceKind::Normal,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(text)) => {
                    piece.text = str::from_utf8(text).context("a piece is not UTF-8")?.to_owned()
                }
                (2, Field::Float(score)) => {
                    ensure!(score.is_finite(), "a piece has a score that is no number");
                    piece.score = score;
                }
                (3, Field::Varint(number)) => piece.kind = PieceKind::of(number)?,
                _ => {}
            }
        }
        ensure!(!piece.text.is_empty(), "a piece is empty");
        Ok(piece)
    }
}
