//! Chat templates, as `transformers` renders and encodes them (scripts/chat_fixtures.py).

use std::collections::BTreeMap;
use std::path::Path;

use mlx_gpt::tokenizer::Tokenizer;
use mlx_gpt::tokenizer::chat::{ChatTemplate, Message};
use serde_json::Value;

#[test]
fn texts_and_ids_are_those_of_transformers() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/chat.json")).unwrap();
    let eos = BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]);
    let template = |name: &str| {
        let source = fixture["templates"][name].as_str().unwrap().to_owned();
        ChatTemplate::new(source, eos.clone()).unwrap()
    };
    let tokenizer = |name: &str| Tokenizer::from_json(fixture["tokenizers"][name].clone(), Path::new(name)).unwrap();
    assert!(matches!(tokenizer("characters"), Tokenizer::Char(_)));
    assert!(matches!(tokenizer("bytes"), Tokenizer::Bpe(_)));
    assert_eq!(
        ChatTemplate::own().unwrap().source(),
        fixture["templates"]["own"],
        "the fixture is of this program's template"
    );
    let (mut same, mut refused) = (0, 0);
    for case in fixture["cases"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap();
        let (template, tokenizer) = (template(text("template")), tokenizer(text("tokenizer")));
        let messages = Message::list(&case["messages"]).unwrap();
        if !case["refused"].is_null() {
            assert!(template.render(&messages, true).is_err(), "{case}");
            refused += 1;
            continue;
        }
        for (prompt, rendered, ids) in [(false, "text", "ids"), (true, "prompt", "prompt_ids")] {
            assert_eq!(template.render(&messages, prompt).unwrap(), text(rendered), "{case}");
            let expected: Vec<u32> = serde_json::from_value(case[ids].clone()).unwrap();
            assert_eq!(
                template.encode(&tokenizer, &messages, prompt).unwrap(),
                expected,
                "{case}"
            );
        }
        same += 1;
    }
    assert_eq!((same, refused), (46, 2));
}
