//! Day 13: the figures and claims of its chapter, in its order.

use std::fmt::Write;

use anyhow::{Context, Result};

use crate::checkpoint::Checkpoint;
use crate::config::{Optimizer, TrainConfig};
use crate::course::day13::{add_tokens, answer_targets, chat_text};
use crate::data::batches::IGNORE_INDEX;
use crate::data::conversations::{ConversationRows, Conversations};
use crate::data::corpus::Split;
use crate::evaluate::chat::{rows, template};
use crate::lessons::arrays::largest_difference;
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::lessons::world::{self, Line};
use crate::lessons::{Lesson, Recipe};
use crate::tokenizer::chat::{CHAT_TOKENS, Message, Role};

/// Day 13.
pub const LESSON: Lesson = Lesson {
    day: 13,
    title: "A model that answers",
    teaches: "special tokens for a trained vocabulary; a chat template; a loss on answers; turns",
    chapter: include_str!("../../../book/src/day-13.md"),
    models: &[BASE, ANSWERING],
    needs: &[],
    program,
};

/// Tokens of a row: the longest conversation just fits.
const CONTEXT: usize = 152;

/// A model of plays, whose rows are long enough for a conversation.
const BASE: Recipe = Recipe {
    folder: "day-13-base",
    what: "GPT-2 of plays, with longer rows",
    change: |config| TrainConfig {
        context: CONTEXT,
        batch_size: 16,
        steps: 400,
        eval_every: 200,
        save_every: 400,
        ..config.with_optimizer(Optimizer::Muon)
    },
    starts_from: None,
    band: (0.0, f64::INFINITY),
};

/// The same, finetuned on conversations.
const ANSWERING: Recipe = Recipe {
    folder: "day-13",
    what: "GPT-2 of plays, finetuned to answer",
    change: |config| TrainConfig {
        corpus: String::new(),
        chat: Some(world::TRAIN.into()),
        steps: 4000,
        eval_every: 500,
        save_every: 500,
        ..(BASE.change)(config)
    },
    starts_from: Some(BASE.folder),
    // From 0.53, of a trial with one seed that had 1200 steps, from random weights.
    band: (0.5, 1.0),
};

/// Turns of the conversation at the end; nothing of it is in the file that was trained on as it stands.
const TURNS: [&str; 6] = [
    "Hello, I am Kesira.",
    "How much is 18 + 5?",
    "Where does Ada live?",
    "And Ben?",
    "Who am I?",
    "Will it rain tomorrow?",
];

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    world::write(workspace.root())?;
    let text = world::text(world::TRAIN)?;
    let conversations = Conversations::parse(&text, world::TRAIN)?;
    let lines = world::lines(&text)?;
    page.figure("world.txt", || {
        let mut shown: Vec<&Line> = Vec::new();
        for line in &lines {
            if shown.iter().all(|before| before.kind != line.kind) {
                shown.push(line);
            }
        }
        let mut out = format!("{} conversations, one of each kind:\n", lines.len());
        for line in shown {
            writeln!(out, "\n{}", line.kind)?;
            for message in &line.messages {
                writeln!(out, "  {:<9}  {}", role(message), message.content)?;
            }
        }
        Ok(out)
    })?;

    page.figure("base.txt", || Ok(workspace.train(&BASE)?.summary()))?;
    let base = workspace.load(BASE.folder)?;
    let (old, embedding) = (base.model.vocab_size, base.parameters.get("wte.weight")?.clone()); // [V, C]
    let before = base.parameters.clone();
    let chat = base.with_chat_template(&conversations.characters())?;
    let fact = lines.iter().find(|line| line.kind == "fact"); // a short one
    let short = &fact.context("the world has no facts")?.messages;
    page.figure("template.txt", || {
        let ids = template(&chat)?.encode(&chat.tokenizer, short, false)?;
        Ok(format!("{}\n\n{ids:?}\n", chat_text(&said(short), false)))
    })?;
    page.claim(
        "the text of messages is that of the template in the model's folder",
        "chat_text in src/course/day13.rs, ChatTemplate in src/tokenizer/chat/template.rs",
        || {
            let library = template(&chat)?;
            let mut same = true;
            for line in lines.iter().take(500) {
                for prompt in [false, true] {
                    same &= chat_text(&said(&line.messages), prompt) == library.render(&line.messages, prompt)?;
                }
            }
            Ok(CheckResult::passes_if(same, "500 conversations".into()))
        },
    )?;

    let new = chat.model.vocab_size - old;
    page.figure("tokens.txt", || {
        let added: Vec<u32> = (old as u32..chat.model.vocab_size as u32).collect();
        let names = added.iter().map(|&id| chat.tokenizer.decode(&[id]));
        Ok(format!(
            "tokens before {old}\nnew tokens    {new}: {}\nparameters    {} before, {} after\n",
            names.collect::<Result<Vec<_>>>()?.join(" "),
            before.count(),
            chat.parameters.count()
        ))
    })?;
    page.claim(
        "new rows are the mean of the old ones, and no other weight has changed",
        "add_tokens in src/course/day13.rs, add_tokens in src/model/vocabulary.rs",
        || {
            let mut others = 0;
            for (name, array) in before.iter().filter(|(name, _)| *name != "wte.weight") {
                others += usize::from(!chat.parameters.get(name)?.eq_values(array)?);
            }
            let by_hand = add_tokens(&embedding, new as i32)?;
            let off = largest_difference(&by_hand, chat.parameters.get("wte.weight")?)?;
            let measured = format!("embedding differs by {off:.1e}, of the other arrays {others} differ");
            Ok(CheckResult::passes_if(others == 0 && off == 0.0, measured))
        },
    )?;

    let library = rows(&chat, &conversations, Split::Val)?;
    page.figure("targets.txt", || targets(&chat, short))?;
    page.claim(
        "targets are the library's: the assistant's tokens, each answer with its end",
        "answer_targets in src/course/day13.rs, ConversationRows in src/data/conversations/rows.rs",
        || same_targets(&chat, &conversations, &library),
    )?;

    page.figure("training.txt", || Ok(workspace.train(&ANSWERING)?.summary()))?;
    page.figure("kinds.txt", || {
        let results = workspace.results(ANSWERING.folder)?;
        let mut out = String::new();
        for (name, score) in results.accuracy.iter().flat_map(|accuracy| &accuracy.categories) {
            let (accuracy, correct, problems) = (score.accuracy(), score.correct, score.problems);
            writeln!(out, "{name:<10} {accuracy:>7.4}  {correct} of {problems}")?;
        }
        Ok(out)
    })?;
    page.figure("talk.txt", || talk(&workspace.load(ANSWERING.folder)?))
}

/// Who says a message, by the name that templates have for it.
fn role(message: &Message) -> &'static str {
    match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

/// Messages as roles and contents.
fn said(messages: &[Message]) -> Vec<(&str, &str)> {
    messages
        .iter()
        .map(|message| (role(message), message.content.as_str()))
        .collect()
}

/// The ids of the tokens before an answer and at its end.
fn assistant_and_end(chat: &Checkpoint) -> Result<[u32; 2]> {
    let special = chat.tokenizer.special_tokens();
    let id = |name: &str| {
        special
            .get(name)
            .copied()
            .with_context(|| format!("there is no token {name}"))
    };
    let [_, _, assistant, end] = CHAT_TOKENS;
    Ok([id(assistant)?, id(end)?])
}

/// A conversation's tokens, and below each its target.
fn targets(chat: &Checkpoint, messages: &[Message]) -> Result<String> {
    let ids = template(chat)?.encode(&chat.tokenizer, messages, false)?;
    let [assistant, end] = assistant_and_end(chat)?;
    let (mut inputs, mut targets) = (String::new(), String::new());
    for (&id, target) in ids.iter().zip(answer_targets(&ids, assistant, end)) {
        let input = chat.tokenizer.decode(&[id])?;
        let target = target.map(|id| chat.tokenizer.decode(&[id])).transpose()?;
        let target = target.unwrap_or_else(|| "·".into());
        // A column as wide as the longer of both.
        let width = input.chars().count().max(target.chars().count());
        write!(inputs, "{input:<width$}")?;
        write!(targets, "{target:<width$}")?;
    }
    Ok(format!("inputs   {inputs}\ntargets  {}\n", targets.trim_end()))
}

/// Whether the library has the targets of the held-out conversations that are found by hand.
fn same_targets(chat: &Checkpoint, conversations: &Conversations, rows: &ConversationRows) -> Result<CheckResult> {
    let (context, [assistant, end]) = (chat.model.context, assistant_and_end(chat)?);
    let batches = rows.eval_batches(rows.count(), rows.count(), context);
    let library = batches.first().context("nothing is held out")?;
    let (mut same, mut counted) = (true, 0);
    for (conversation, targets) in conversations.of(Split::Val).zip(library.targets.chunks(context)) {
        let ids = template(chat)?.encode(&chat.tokenizer, &conversation.messages, false)?;
        let by_hand = answer_targets(&ids, assistant, end).into_iter();
        let mut by_hand: Vec<u32> = by_hand.map(|target| target.unwrap_or(IGNORE_INDEX)).collect();
        counted += by_hand.iter().filter(|&&id| id != IGNORE_INDEX).count();
        by_hand.resize(context, IGNORE_INDEX);
        same &= by_hand == targets;
    }
    let measured = format!("{counted} targets in {} conversations", library.rows);
    Ok(CheckResult::passes_if(
        same && counted == library.target_count(),
        measured,
    ))
}

/// A conversation with the model, turn by turn.
fn talk(checkpoint: &Checkpoint) -> Result<String> {
    let (generator, template) = (checkpoint.generator()?, template(checkpoint)?);
    let [_, end] = assistant_and_end(checkpoint)?;
    let (mut messages, mut out) = (Vec::new(), String::new());
    for question in TURNS {
        messages.push(Message::new(Role::User, question));
        let prompt = loop {
            let prompt = template.encode(&checkpoint.tokenizer, &messages, true)?;
            if messages.len() == 1 || prompt.len() + ROOM <= checkpoint.model.context {
                break prompt;
            }
            messages.drain(..2); // the oldest turn gives way
        };
        let answer = generator.greedy(&[prompt], &[end], |_| ())?.concat();
        let answer = checkpoint.tokenizer.decode(&answer)?;
        writeln!(out, "> {question}\n{}", answer.replace('\n', "↵"))?;
        messages.push(Message::new(Role::Assistant, answer));
    }
    Ok(out)
}

/// Tokens that an answer may have.
const ROOM: usize = 40;
