//! Training on several machines: what ranks do together besides the sums of a step, and the loop of all ranks but the first.

use std::rc::Rc;

use anyhow::{Result, ensure};
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, ops};
use sha2::{Digest, Sha256};

use super::Outcome;
use super::handover::{self, Taken};
use super::observer::{Interrupt, Observer};
use super::optimizers::outer;
use super::session::Session;
use super::step::arrays::Gradients;
use super::step::{RankReduce, Stepper, TrainState};
use crate::checkpoint::Apart;
use crate::compute::memory;
use crate::compute::ranks::Ranks;
use crate::config::{ConfigOverrides, Objective, OnNan, Precision, TrainConfig};
use crate::data::tokens::Tokens;
use crate::model::parameters::Parameters;

/// What a rank has to do with the others, besides the sums of its steps.
pub struct Together {
    ranks: Rc<Ranks>,
    /// Where ranks train apart, and join now and then.
    joins: Option<Joins>,
}

/// DiLoCo's outer loop.
struct Joins {
    every: u64,
    /// After the last step, too.
    last: u64,
    /// Loss scaling is rank 0's after a join, as the checkpoint has that alone.
    float16: bool,
    reduce: RankReduce,
    /// The parameters that all ranks began with after the last join.
    start: Parameters,
    /// Rank 0 has the moments of all ranks here while it saves.
    apart: Apart,
}

impl Together {
    /// For a run in `state`, with what its checkpoint has of ranks that train `apart`.
    ///
    /// # Errors
    /// MLX's.
    pub fn new(ranks: &Rc<Ranks>, config: &TrainConfig, state: &TrainState, apart: Option<Apart>) -> Result<Self> {
        let joins = (config.sync_every > 0).then(|| {
            let momentum = match apart {
                Some(apart) => apart.momentum,
                None => state.parameters.map(|array| ops::zeros_like(array))?,
            };
            let parameters = &state.parameters;
            let shapes = parameters.arrays().iter().map(|array| array.shape().to_vec());
            let every = format!("{} steps", config.sync_every);
            anyhow::Ok(Joins {
                every: config.sync_every,
                last: config.steps,
                float16: config.dtype == Precision::Float16,
                reduce: RankReduce::new(Rc::clone(ranks), shapes.collect(), &every),
                start: parameters.clone(),
                apart: Apart {
                    momentum,
                    others: Vec::new(),
                },
            })
        });
        Ok(Self {
            ranks: Rc::clone(ranks),
            joins: joins.transpose()?,
        })
    }

    /// Passes on whether this rank is asked to stop; whether all are to stop now.
    pub fn stopping(&self, asked: bool) -> bool {
        self.ranks.set_wants_stop(asked);
        self.ranks.stopping()
    }

    /// Joins the ranks if it is time to: to be called after each step.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn after_step(&mut self, state: &mut TrainState) -> Result<()> {
        match &mut self.joins {
            Some(joins) if state.step.is_multiple_of(joins.every) || state.step == joins.last => {
                joins.join(&self.ranks, state)
            }
            _ => Ok(()),
        }
    }

    /// What all ranks do, after the same step, before the first one saves for all: they compare what they have learned, and
    /// where they train apart, the first one gets the moments of all.
    ///
    /// # Errors
    /// A rank's parameters differ, to the bit; MLX's. If a rank is lost, the process ends.
    pub fn before_save(&mut self, state: &TrainState) -> Result<()> {
        let mut hash = Sha256::new();
        for array in state.parameters.arrays() {
            hash.update(bytemuck::cast_slice::<f32, u8>(array.try_as_slice()?));
        }
        self.ranks
            .ensure_same("other parameters, after the same steps,", hash.finalize())?;
        let Some(joins) = &mut self.joins else {
            return Ok(());
        };
        joins.apart.others.clear();
        for rank in 1..self.ranks.size() {
            let m = self.ranks.broadcast_from(rank, state.m.arrays())?;
            let v = self.ranks.broadcast_from(rank, state.v.arrays())?;
            if self.ranks.is_first() {
                let of = [
                    Parameters::new(state.m.names(), m)?,
                    Parameters::new(state.v.names(), v)?,
                ];
                joins.apart.others.push(of);
            }
        }
        Ok(())
    }

    /// What a checkpoint has besides the moments of rank 0, after [`before_save`](Self::before_save).
    pub fn apart(&self) -> Option<Apart> {
        self.joins.as_ref().map(|joins| joins.apart.clone())
    }
}

impl Joins {
    fn join(&mut self, ranks: &Ranks, state: &mut TrainState) -> Result<()> {
        let both = self.start.arrays().iter().zip(state.parameters.arrays());
        let share = Array::from_f32(1.0 / ranks.size() as f32);
        let differences = both.map(|(start, now)| start.subtract(now)?.multiply(&share));
        let mean = self.reduce.sum(vec![Gradients {
            loss: Array::from_f32(0.0),
            terms: Vec::new(),
            gradients: differences.collect::<MlxResult<_>>()?,
        }])?;
        let old = self.start.arrays().iter().zip(self.apart.momentum.arrays());
        let new = old.zip(&mean.gradients);
        let new = new.map(|((start, momentum), mean)| outer::step(start, momentum, mean));
        let new: Vec<[Array; 2]> = new.collect::<MlxResult<_>>()?;
        let (parameters, momentum): (Vec<Array>, Vec<Array>) = new.into_iter().map(<(Array, Array)>::from).unzip();
        eval(parameters.iter().chain(&momentum))?;
        self.apart.momentum = Parameters::new(self.start.names(), momentum)?;
        self.start = Parameters::new(self.start.names(), parameters)?;
        state.parameters = self.start.clone();
        if self.float16 {
            let scale = serde_json::to_vec(&state.loss_scale)?;
            state.loss_scale = serde_json::from_slice(&ranks.broadcast_bytes(&scale)?)?;
        }
        Ok(())
    }
}

impl Session {
    /// Whether the run is to stop now: on several machines after the step whose sums have passed on that one of them was asked
    /// to.
    pub(super) fn stopping(&self, interrupt: &dyn Observer) -> bool {
        match &self.together {
            None => interrupt.requested(),
            Some(together) => together.stopping(interrupt.requested()),
        }
    }

    /// As [`Together::after_step`].
    pub(super) fn join(&mut self) -> Result<()> {
        match &mut self.together {
            Some(together) => together.after_step(&mut self.state),
            None => Ok(()),
        }
    }

    /// As [`Together::before_save`].
    pub(super) fn meet(&mut self) -> Result<()> {
        match &mut self.together {
            Some(together) => together.before_save(&self.state),
            None => Ok(()),
        }
    }
}

/// The rows of each batch that this rank trains on, and how many its loss is the mean of: where ranks train apart, its own.
///
/// # Errors
/// There are fewer rows than ranks; what only one machine does is asked of several; or ranks train apart, and cannot have equally many.
pub(super) fn rows(config: &TrainConfig, ranks: Option<&Ranks>) -> Result<([usize; 2], usize)> {
    let Some(ranks) = ranks else {
        ensure!(
            config.sync_every == 0,
            "sync-every {} is for several machines; start them with --hosts or mpirun, or leave it out",
            config.sync_every
        );
        return Ok(([0, config.batch_size], config.batch_size));
    };
    ensure!(
        config.objective() == Objective::NextToken,
        "rl and preferences are trained on one machine; start one process, without --hosts or mpirun"
    );
    ensure!(
        config.patience == 0,
        "patience {} is for one machine; leave it out, or start one process, without --hosts or mpirun",
        config.patience
    );
    let rows = ranks.share(config.batch_size)?;
    if config.sync_every == 0 {
        return Ok((rows, config.batch_size));
    }
    ensure!(
        config.batch_size.is_multiple_of(ranks.size()),
        "with sync-every, the {} ranks must have equally many of the {} rows; choose a --batch-size of {}",
        ranks.size(),
        config.batch_size,
        config.batch_size.next_multiple_of(ranks.size())
    );
    Ok((rows, rows[1] - rows[0]))
}

/// Takes rank 0's run, and its steps with it, until the last one or until any rank is asked to stop. `options` are those that
/// this rank was given; of them only those of its own machine matter.
///
/// # Errors
/// A text that is not there, or not rank 0's; a step that is not finite, unless such steps are skipped; MLX's.
pub fn follow(ranks: &Rc<Ranks>, options: &ConfigOverrides, interrupt: &dyn Interrupt) -> Result<Outcome> {
    let Taken {
        config,
        model,
        train,
        mut state,
        apart,
    } = handover::take(ranks, options)?;
    if state.step == config.steps {
        return Ok(Outcome::Finished);
    }
    let stepper = Stepper::among(Some(ranks), &config, &model, &state.parameters, &state.frozen)?;
    let mut stepper = stepper.with_training_tokens(train.tokens().map(Tokens::len));
    stepper.set_retry(state.retry);
    let mut together = Together::new(ranks, &config, &state, apart)?;
    // From here on a signal is passed on to all ranks.
    interrupt.set_unsaved_work(Some("what rank 0 has not saved yet".into()));
    stepper.time_step(&mut state, &train)?;
    memory::limit_cache(mlx_rs::memory::peak_memory()?)?;
    while state.step < config.steps {
        if together.stopping(interrupt.requested()) {
            together.before_save(&state)?;
            return Ok(Outcome::Stopped);
        }
        let batches = stepper.micro_batches(&train, state.step);
        let step = stepper.begin(&mut state, batches)?.report()?;
        stepper.count_skipped(&mut state, &step);
        ensure!(
            !step.found_inf || config.on_nan == OnNan::Skip,
            "step {}: loss {}, gradient norm {}: not finite",
            step.step,
            step.loss,
            step.grad_norm
        );
        together.after_step(&mut state)?;
        if state.step.is_multiple_of(config.save_every) || state.step == config.steps {
            together.before_save(&state)?;
        }
    }
    Ok(Outcome::Finished)
}
