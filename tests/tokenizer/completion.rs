//! From tokens to a completion: whole characters, stop strings across tokens, and why it ended.

use std::sync::LazyLock;

use mlx_gpt::generate::sampler::SampledToken;
use mlx_gpt::generate::{Completion, CompletionBuilder, FinishReason, StopCriteria};
use mlx_gpt::tokenizer::{CharTokenizer, Tokenizer};
use proptest::prelude::*;

static GPT2: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::gpt2().unwrap());

fn ending(max_new_tokens: usize, stop: &[&str], eos_tokens: impl IntoIterator<Item = u32>) -> StopCriteria {
    StopCriteria {
        max_new_tokens,
        stop: stop.iter().map(|&stop| stop.to_owned()).collect(),
        eos_tokens: eos_tokens.into_iter().collect(),
    }
}

/// Gives tokens until it is finished: the completion, and the text as it came.
fn write(tokenizer: &Tokenizer, ids: &[u32], ending: &StopCriteria) -> (Completion, Vec<String>) {
    let mut writer = CompletionBuilder::new(tokenizer, ending);
    let mut pieces = Vec::new();
    for &id in ids {
        if writer.is_finished() {
            break;
        }
        let logprob = -(id as f32);
        pieces.push(writer.push(SampledToken { id, logprob }).unwrap());
    }
    (writer.completion().clone(), pieces)
}

#[test]
fn it_ends_by_length_stop_string_or_end_of_text() {
    let tokenizer = &*GPT2;
    let end = tokenizer.eos_token();
    let mut ids = tokenizer.encode("One two three.\n\nFour").unwrap();
    ids.push(end.unwrap());
    ids.extend(tokenizer.encode(" five").unwrap());

    let (all, _) = write(tokenizer, &ids, &ending(99, &[], end));
    assert_eq!(all.text, "One two three.\n\nFour");
    assert_eq!(all.finish_reason, Some(FinishReason::Eos));
    assert_eq!(all.ids, ids[..ids.len() - 1], "the end-of-text token is the last");
    let logprobs: Vec<f32> = all.ids.iter().map(|&id| -(id as f32)).collect();
    assert_eq!(all.logprobs, logprobs);

    let (on, _) = write(tokenizer, &ids, &ending(ids.len(), &[], None));
    assert_eq!(on.text, "One two three.\n\nFour<|endoftext|> five");
    assert_eq!(on.finish_reason, Some(FinishReason::Length));

    let (short, _) = write(tokenizer, &ids, &ending(2, &["three"], end));
    assert_eq!((short.text.as_str(), short.ids.len()), ("One two", 2));
    assert_eq!(short.finish_reason, Some(FinishReason::Length));

    // "wo thr" begins inside of " two" and ends inside of " three", the third token.
    for most in [3, 99] {
        let (stopped, _) = write(tokenizer, &ids, &ending(most, &["wo thr", "Four"], end));
        assert_eq!((stopped.text.as_str(), stopped.ids.len()), ("One t", 3));
        assert_eq!(stopped.finish_reason, Some(FinishReason::Stop));
    }

    let (nothing, _) = write(tokenizer, &ids, &ending(0, &[], end));
    assert_eq!(
        (nothing.ids.len(), nothing.finish_reason),
        (0, Some(FinishReason::Length))
    );
}

#[test]
fn text_waits_for_whole_characters_and_for_what_may_be_a_stop_string() {
    let tokenizer = &*GPT2;
    let face = tokenizer.encode("😀").unwrap();
    assert!(face.len() > 1);
    let (_, pieces) = write(tokenizer, &face, &ending(99, &[], None));
    assert_eq!(pieces.concat(), "😀");
    assert_eq!(pieces[0], "");
    let (cut, pieces) = write(tokenizer, &face, &ending(face.len() - 1, &[], None));
    assert_eq!(
        (cut.text.as_str(), pieces.concat().as_str()),
        ("\u{fffd}", "\u{fffd}"),
        "a part of a character"
    );
    let (stopped, _) = write(
        tokenizer,
        &tokenizer.encode("a😀b").unwrap(),
        &ending(99, &["😀"], None),
    );
    assert_eq!(
        (stopped.text.as_str(), stopped.finish_reason),
        ("a", Some(FinishReason::Stop))
    );

    let tokenizer = &CharTokenizer::from_text("abc").into();
    let (_, pieces) = write(tokenizer, &[0, 1, 0, 1, 2], &ending(99, &["abc"], None));
    assert_eq!(pieces, ["", "", "ab", "", ""]);
    let (unfinished, pieces) = write(tokenizer, &[0, 1, 0, 1], &ending(4, &["abc"], None));
    assert_eq!(
        (unfinished.text.as_str(), pieces.concat().as_str()),
        ("abab", "abab"),
        "what waits is given at the end"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_text_is_that_of_all_tokens_up_to_the_stop_string(text in "[a-c é😀\n]{0,40}", stop in "[a-c é😀\n]{1,3}") {
        let tokenizer = &*GPT2;
        let ids = tokenizer.encode(&text).unwrap();
        let (completion, pieces) = write(tokenizer, &ids, &ending(ids.len(), &[&stop], None));
        let expected = text.split(stop.as_str()).next().unwrap();
        prop_assert_eq!(&completion.text, expected);
        prop_assert_eq!(pieces.concat(), expected);
        // Of the tokens, none came after the one that completed it.
        let seen = |tokens: usize| tokenizer.decode(&ids[..tokens]).unwrap().contains(&stop);
        prop_assert_eq!(completion.finish_reason == Some(FinishReason::Stop), text.contains(&stop));
        if text.contains(&stop) {
            prop_assert!(seen(completion.ids.len()) && !seen(completion.ids.len() - 1));
        } else {
            prop_assert_eq!(completion.ids, ids);
        }
    }
}
