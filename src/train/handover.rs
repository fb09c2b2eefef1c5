//! What rank 0 hands to the other ranks before the first step: its configuration, tokenizer and state, so that all begin with
//! the same, wherever rank 0 has it from. The text alone is read by each rank, and compared.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use mlx_rs::{Array, ops};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::setup::{Setup, sources};
use super::step::TrainState;
use crate::checkpoint::{Apart, LossLevel, LossScale};
use crate::compute::ranks::Ranks;
use crate::config::{ConfigOverrides, ModelConfig, TrainConfig};
use crate::data::dataset::Dataset;
use crate::data::source::Source;
use crate::model::parameters::Parameters;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;

/// A parameter's name and shape.
type Entry = (String, Vec<i32>);

/// All but the numbers.
#[derive(Serialize, Deserialize)]
struct Plan {
    config: TrainConfig,
    model: ModelConfig,
    tokenizer: Value,
    chat_template: Option<ChatTemplate>,
    step: u64,
    skipped: u64,
    loss_scale: Option<LossScale>,
    retry: u32,
    trainable: Vec<Entry>,
    frozen: Vec<Entry>,
    /// The parameters that have a second moment.
    v: Vec<Entry>,
    /// Where ranks train apart: the number of ranks but the first whose moments the checkpoint has.
    apart: Option<usize>,
}

/// What another rank trains with.
pub struct Taken {
    pub config: TrainConfig,
    pub model: ModelConfig,
    pub train: Source,
    pub state: TrainState,
    pub apart: Option<Apart>,
}

/// Rank 0's part.
///
/// # Errors
/// Another rank reads another text, or has ended.
pub fn give(ranks: &Ranks, config: &TrainConfig, setup: &Setup) -> Result<()> {
    let state = &setup.state;
    let plan = Plan {
        config: config.clone(),
        model: setup.model.clone(),
        tokenizer: setup.tokenizer.to_json(),
        chat_template: setup.chat_template.clone(),
        step: state.step,
        skipped: state.skipped,
        loss_scale: state.loss_scale,
        retry: state.retry,
        trainable: entries(&state.parameters),
        frozen: entries(&state.frozen),
        v: entries(&state.v),
        apart: setup.apart.as_ref().map(|apart| apart.others.len()),
    };
    ranks.broadcast_bytes(&serde_json::to_vec(&plan)?)?;
    ensure_same_text(ranks, &setup.saved.corpus)?;
    for part in [&state.parameters, &state.frozen] {
        ranks.broadcast(part.arrays())?;
    }
    // The moments before the first step are zeros.
    if state.step > 0 {
        ranks.broadcast(state.m.arrays())?;
        ranks.broadcast(state.v.arrays())?;
    }
    if let Some(apart) = &setup.apart {
        ranks.broadcast(apart.momentum.arrays())?;
        for part in apart.others.iter().flatten() {
            ranks.broadcast(part.arrays())?;
        }
    }
    Ok(())
}

/// Another rank's part; `own` are the options that it was given.
///
/// # Errors
/// A text that is not there, or not rank 0's; a device that is not there; rank 0 has ended.
pub fn take(ranks: &Rc<Ranks>, own: &ConfigOverrides) -> Result<Taken> {
    let plan: Plan = serde_json::from_slice(&ranks.broadcast_bytes(&[])?).context("what rank 0 has sent")?;
    let config = plan.config.on_this_machine(own)?;
    config.device.select()?;
    let dataset = Dataset::of_config(&config)?;
    let tokenizer = Tokenizer::from_json(plan.tokenizer, Path::new("rank 0's tokenizer"))?;
    ensure_same_text(ranks, &dataset.record()?)?;
    let (train, _) = sources(&config, &tokenizer, plan.chat_template.as_ref(), &dataset)?;
    let zeros = |entries: &[Entry]| -> Result<Parameters> {
        let arrays = entries
            .iter()
            .map(|(name, shape)| Ok((name.clone(), ops::zeros::<f32>(shape)?)));
        Ok(Parameters::from_entries(arrays.collect::<Result<_>>()?))
    };
    let received = |entries: &[Entry], sent: bool| -> Result<Parameters> {
        let zeros = zeros(entries)?;
        Ok(match sent {
            true => Parameters::new(zeros.names(), ranks.broadcast(zeros.arrays())?)?,
            false => zeros,
        })
    };
    let begun = plan.step > 0;
    let mut state = TrainState {
        step: plan.step,
        parameters: received(&plan.trainable, true)?,
        frozen: received(&plan.frozen, true)?,
        m: received(&plan.trainable, begun)?,
        v: received(&plan.v, begun)?,
        skipped: plan.skipped,
        loss_scale: plan.loss_scale,
        retry: plan.retry,
        loss_level: LossLevel::default(), // rank 0 watches it
        pace: None,
    };
    let mut apart = None;
    if let Some(others) = plan.apart {
        let momentum = received(&plan.trainable, true)?;
        // Rank 0's moments are the state's; each other rank takes its own, or those of one that is no more.
        let own = ranks.rank() % (others + 1);
        for other in 1..=others {
            let (m, v) = (received(&plan.trainable, true)?, received(&plan.v, true)?);
            if other == own {
                (state.m, state.v) = (m, v);
            }
        }
        apart = Some(Apart {
            momentum,
            others: Vec::new(),
        });
    }
    state.evaluate()?;
    Ok(Taken {
        apart,
        config,
        model: plan.model,
        train,
        state,
    })
}

fn ensure_same_text(ranks: &Ranks, record: &impl Serialize) -> Result<()> {
    ranks
        .ensure_same("another text to train on", serde_json::to_vec(record)?)
        .context("give each rank the same text, with --corpus where it is elsewhere")
}

fn entries(parameters: &Parameters) -> Vec<Entry> {
    let entry = |(name, array): (&str, &Array)| (name.to_owned(), array.shape().to_vec());
    parameters.iter().map(entry).collect()
}
