//! Tokenizers of every kind, and what is done with those that load.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use mlx_gpt::tokenizer::{
    Bpe, CharTokenizer, Pattern, PreTokenizer, SpecialTokenPolicy, StreamDecoder, Tokenizer, train_sentencepiece,
    train_unigram,
};
use serde_json::{Value, json};

use super::common::{folder, from_base64};
use super::harness::{BASE_WITH_EXPRESSIONS, Target, alone};
use super::mutation::Form;

const TEXT: &str = "The cat's 123 naïve mats:\n\n  字 😀 e\u{301}\u{0}<|endoftext|> ▁x\r\n";

/// Loads a tokenizer and does with it what the program does.
fn load_and_use(folder: &Path) -> Result<()> {
    let tokenizer = Tokenizer::load(folder)?;
    let in_range = |ids: &[u32]| ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size());
    for policy in [
        SpecialTokenPolicy::TEXT,
        SpecialTokenPolicy::ALLOW,
        SpecialTokenPolicy::RAISE,
    ] {
        // A text that cannot be encoded is the text's matter. Ids beyond the vocabulary would be looked up in the memory
        // behind the embedding.
        if let Ok(ids) = tokenizer.encode_with(TEXT, &policy) {
            assert!(in_range(&ids), "{ids:?} of {}", tokenizer.vocab_size());
            let _ = tokenizer.decode(&ids);
            let mut stream = StreamDecoder::new(&tokenizer);
            for &id in &ids {
                let _ = stream.push(id);
            }
            let _ = stream.finish();
        }
    }
    assert!(in_range(&tokenizer.default_prompt()));
    assert!(tokenizer.special_tokens().values().all(|&id| in_range(&[id])));
    for id in [0, 1, 2, 255, 256, tokenizer.vocab_size() as u32 - 1, u32::MAX] {
        let _ = (
            tokenizer.decode(&[id]),
            tokenizer.decode_bytes(&[id]),
            tokenizer.token_bytes(id),
        );
    }
    let _ = tokenizer.config_json(16);
    // What was loaded can be written into a checkpoint and read again.
    let again = Tokenizer::from_json(tokenizer.to_json(), &folder.join("again"))?;
    ensure!(
        again.vocab_size() == tokenizer.vocab_size(),
        "{}: it changes when it is saved",
        folder.display()
    );
    Ok(())
}

fn fire(name: &str, seeds: &[Value]) {
    let target = Target {
        name,
        file: "tokenizer.json",
        form: Form::Plain,
        seeds: seeds.iter().map(|json| json.to_string().into_bytes()).collect(),
        hashed: false,
        base: BASE_WITH_EXPRESSIONS,
        one_of: 1,
        read: &load_and_use,
    };
    target.run(&folder());
}

#[test]
fn tokenizers_of_characters() {
    let _alone = alone();
    fire("tokenizer-char", &[CharTokenizer::from_text("\n abcdé字").to_json()]);
}

#[test]
fn byte_level_tokenizers() {
    let _alone = alone();
    let text = "the cat sat on the mat and the rat";
    let train = |pattern, specials: &[&str]| {
        let size = 256 + 6 + specials.len();
        Tokenizer::from(Bpe::train(text, size, pattern, specials, |_| ()).unwrap()).to_json()
    };
    // With everything that this program's own encoder does.
    let mut all =
        Tokenizer::from(Bpe::train(text, 270, own_pattern(), &["<a>", "<b>", "<c>"], |_| ()).unwrap()).to_json();
    for (number, key) in ["lstrip", "rstrip", "single_word"].into_iter().enumerate() {
        all["added_tokens"][number][key] = true.into();
    }
    all["added_tokens"][1]["special"] = false.into();
    all["added_tokens"][2]["normalized"] = true.into();
    fire(
        "tokenizer-bpe",
        &[train(Pattern::Gpt2, &["<|endoftext|>"]), train(Pattern::Gpt4, &[]), all],
    );
}

fn own_pattern() -> PreTokenizer {
    r"(?i:'s)|[^\r\n\p{L}]?\p{L}+|\p{N}{1,2}|\s+(?!\S)|(.)\1*|\s"
        .parse()
        .unwrap()
}

/// The files of a folder, one after the other; the others are as they were.
#[test]
fn folders_of_tokenizers() {
    let _alone = alone();
    let bpe = Bpe::train("the cat sat on the mat and the rat", 266, Pattern::Gpt2, &[], |_| ()).unwrap();
    let json = Tokenizer::from(bpe).to_json();
    let vocab = json["model"]["vocab"].to_string();
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merges: Vec<&str> = merges.map(|merge| merge.as_str().unwrap()).collect();
    let token = |content: &str, special: bool| {
        json!({
            "content": content, "single_word": false, "lstrip": true, "rstrip": false, "normalized": !special,
            "special": special
        })
    };
    let map = json!({
        "bos_token": "<s>", "eos_token": token("</s>", true), "pad_token": "the",
        "additional_special_tokens": ["<a>", token("<b>", true)]
    });
    let config = json!({
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true, "eos_token": "</s>", "unk_token": token("<unk>", true),
        "image_token": "<image>", "extra_special_tokens": { "x_token": "<x>" },
        "added_tokens_decoder": { "266": token("</s>", true), "270": token("<y>", false) }
    });
    let files = [
        ("vocab.json", vocab),
        ("merges.txt", format!("#version: 0.2\n{}\n", merges.join("\n"))),
        ("special_tokens_map.json", map.to_string()),
        ("added_tokens.json", json!({ "<s>": 266, "<pad>": 268 }).to_string()),
        ("config.json", json!({ "vocab_size": 272 }).to_string()),
        ("tokenizer_config.json", config.to_string()),
    ];
    for (changed, seed) in &files {
        let folder = folder();
        for (name, contents) in &files {
            // What a decoder of added tokens says, hides two of the others.
            if *name != "tokenizer_config.json" || changed == name {
                fs::write(folder.path().join(name), contents).unwrap();
            }
        }
        let target = Target {
            name: "tokenizer-folder",
            file: changed,
            form: Form::Plain,
            seeds: vec![seed.as_bytes().to_vec()],
            hashed: false,
            base: BASE_WITH_EXPRESSIONS,
            one_of: 4,
            read: &load_and_use,
        };
        target.run(&folder);
    }
}

/// Files of sentencepiece's and of tiktoken's.
#[test]
fn tokenizers_of_others() {
    let _alone = alone();
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/tokenizer-files.json")).unwrap();
    let seeds = |kind: &str, key: &str| -> Vec<Vec<u8>> {
        let cases = fixture[kind].as_array().unwrap().iter();
        cases.map(|case| from_base64(case[key].as_str().unwrap())).collect()
    };
    for (name, file, seeds) in [
        (
            "tokenizer-sentencepiece",
            "tokenizer.model",
            seeds("sentencepiece", "model"),
        ),
        ("tokenizer-tiktoken", "ranks.tiktoken", seeds("tiktoken", "file")),
    ] {
        let target = Target {
            name,
            file,
            form: Form::Plain,
            seeds,
            hashed: false,
            base: BASE_WITH_EXPRESSIONS,
            one_of: 1,
            read: &load_and_use,
        };
        target.run(&folder());
    }
}

#[test]
fn tokenizers_of_the_library() {
    let _alone = alone();
    let text = "the cat sat on the mat and the rat ran after the cat\n".repeat(20);
    let trained = [
        Tokenizer::from(train_unigram(&text, 400, &["<s>"]).unwrap()).to_json(),
        Tokenizer::from(train_sentencepiece(&text, 400, &[]).unwrap()).to_json(),
    ];
    fire("tokenizer-library", &trained);
}

/// One of each part that a description can have, so that the changes reach them all.
#[test]
fn tokenizers_of_every_part() {
    let _alone = alone();
    let added = |id: u32, content: &str, special: bool| {
        json!({
            "id": id, "content": content, "single_word": id == 5, "lstrip": true, "rstrip": false,
            "normalized": !special, "special": special
        })
    };
    let vocab =
        json!({ "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "the": 3, "##s": 4, "c": 5, "a": 6, "t": 7, "ca": 8, "▁": 9 });
    let normalizers = json!([
        { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        { "type": "Strip", "strip_left": true, "strip_right": true },
        { "type": "Replace", "pattern": { "Regex": "\\s{2,}" }, "content": " " },
        { "type": "Replace", "pattern": { "String": "``" }, "content": "\"" },
        { "type": "Prepend", "prepend": "▁" }, { "type": "NFC" }, { "type": "NFKD" }, { "type": "StripAccents" },
        { "type": "Nmt" }, { "type": "Lowercase" },
        { "type": "Precompiled", "precompiled_charsmap": "AAQAAAAAAAABAAAAAgAAAAMAAABhYmMA" }
    ]);
    let pre_tokenizers = json!([
        { "type": "BertPreTokenizer" }, { "type": "Whitespace" }, { "type": "WhitespaceSplit" },
        { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
        { "type": "Punctuation", "behavior": "Isolated" }, { "type": "Digits", "individual_digits": true },
        { "type": "CharDelimiterSplit", "delimiter": "," }, { "type": "UnicodeScripts" },
        { "type": "FixedLength", "length": 3 },
        { "type": "Split", "pattern": { "Regex": "\\p{L}+|(?=\\d)" }, "behavior": "MergedWithPrevious", "invert": false },
        { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }
    ]);
    let decoders = json!([
        { "type": "WordPiece", "prefix": "##", "cleanup": true }, { "type": "BPEDecoder", "suffix": "</w>" },
        { "type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true },
        { "type": "Strip", "content": "▁", "start": 1, "stop": 0 }, { "type": "ByteFallback" }, { "type": "Fuse" },
        { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true },
        { "type": "Replace", "pattern": { "String": "▁" }, "content": " " }
    ]);
    let processors = json!([
        { "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1] },
        { "type": "RobertaProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1], "trim_offsets": true, "add_prefix_space": true },
        {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [1], "tokens": ["[CLS]"] } }
        },
        { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true }
    ]);
    let models = [
        json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab }),
        json!({ "type": "WordLevel", "unk_token": "[UNK]", "vocab": vocab }),
        json!({
            "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": true, "vocab": vocab, "merges": ["c a"]
        }),
        json!({
            "type": "Unigram", "unk_id": 0, "byte_fallback": true,
            "vocab": [["<unk>", 0.0], ["▁", -1.0], ["a", -2.0], ["t", -2.5], ["<0x0A>", -3.0]]
        }),
    ];
    let mut seeds = Vec::new();
    for model in &models {
        let unigram = model["type"] == "Unigram";
        let specials = if unigram {
            json!([])
        } else {
            json!([added(0, "[UNK]", true), added(5, "c", false)])
        };
        let whole = |normalizer: Value, pre_tokenizer: Value, decoder: Value, processor: Value| {
            json!({
                "version": "1.0", "truncation": { "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 },
                "padding": { "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]" },
                "added_tokens": specials, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": processor,
                "decoder": decoder, "model": model
            })
        };
        for number in 0..11 {
            let pick = |list: &Value| list.as_array().unwrap().get(number).cloned().unwrap_or(Value::Null);
            seeds.push(whole(
                pick(&normalizers),
                pick(&pre_tokenizers),
                pick(&decoders),
                pick(&processors),
            ));
        }
    }
    // The library takes no part for granted: those seeds that it refuses are none.
    let folder = folder();
    seeds.retain(|seed| {
        fs::write(folder.path().join("tokenizer.json"), seed.to_string()).unwrap();
        load_and_use(folder.path()).is_ok()
    });
    assert!(seeds.len() > 30, "{} seeds", seeds.len());
    fire("tokenizer-parts", &seeds);
}
