//! The optimizer's update of all parameters, each thread's of its share of them.

use std::mem::take;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use mlx_rs::error::Result as MlxResult;
use mlx_rs::{Array, ops};

use super::data_parallel::Gradients;
use super::optimizer::{self, Rates};
use super::rule::Rule;
use super::step::TrainState;
use super::team::{Team, Work};
use crate::config::{ModelConfig, TrainConfig};
use crate::model::compiled::compiled;
use crate::model::parameters::Parameters;

/// Changes parameters and moments by gradients.
pub struct Update {
    rules: Vec<Rule>,
    /// The parameters of each thread, by their numbers.
    shares: Vec<Vec<usize>>,
    team: Team<Task>,
}

/// What a step says of itself; with one thread, not yet evaluated.
pub struct Verdict {
    /// Loss and gradients were finite; otherwise nothing was changed.
    pub finite: Array,
    /// Mean over the step's tokens, before the update.
    pub loss: Array,
    /// Global norm of the gradient before clipping.
    pub grad_norm: Array,
}

impl Verdict {
    pub fn arrays(&self) -> [&Array; VERDICT] {
        [&self.finite, &self.loss, &self.grad_norm]
    }
}

/// Arrays of a verdict.
const VERDICT: usize = 3;

/// What differs from step to step: the numbers of [`Rates`], and Muon's learning rate.
const RATES: usize = 4;

enum Task {
    /// Gradients of the thread's parameters, of each part.
    Sum(Vec<Array>),
    /// Rates, losses of the parts, sums of squares of all gradients, and the thread's gradients and states.
    Apply(Vec<Array>),
}

impl Update {
    /// Of `parameters` that learn in a run of that configuration, from gradients in that many `parts`.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn new(config: &TrainConfig, model: &ModelConfig, parameters: &Parameters, parts: usize) -> Result<Self> {
        let rules: Vec<Rule> = parameters
            .iter()
            .map(|(name, array)| Rule::of(config, model, name, array.shape()))
            .collect();
        let costs: Vec<u64> = rules
            .iter()
            .zip(parameters.arrays())
            .map(|(rule, array)| rule.cost(array.shape()))
            .collect();
        let shares = shares(&costs, config.threads);
        let (all, grad_clip) = (rules.len(), config.grad_clip);
        let own_rules: Vec<Vec<Rule>> = shares
            .iter()
            .map(|share| share.iter().map(|&index| rules[index].clone()).collect())
            .collect();
        let team = Team::new("update", shares.len(), move |thread| {
            work(own_rules[thread].clone(), parts, all, grad_clip)
        })?;
        Ok(Self { rules, shares, team })
    }

    /// Takes one step by the sum of the parts' gradients. Where loss or gradients are not finite, the state stays as it
    /// is. Its old arrays go to the team, so that MLX may write the new ones into their buffers.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; the state is of no use after that.
    pub fn apply(&mut self, state: &mut TrainState, parts: Vec<Gradients>, rates: [f32; RATES]) -> Result<Verdict> {
        let losses: Vec<Array> = parts.iter().map(|part| part.loss.clone()).collect();
        let sums = self.sum(parts)?;

        // In the order of the parameters, so that the norm does not depend on the number of threads.
        let mut squares = vec![Array::from_f32(0.0); self.rules.len()];
        for (share, sums) in self.shares.iter().zip(&sums) {
            share
                .iter()
                .zip(sums)
                .for_each(|(&index, square)| squares[index] = square.clone());
        }
        let mut shared: Vec<Array> = rates.map(Array::from_f32).into();
        shared.extend(losses.into_iter().chain(squares));
        let mut slots = self.take_slots(state);
        let tasks = self.shares.iter().zip(sums).map(|(share, sums)| {
            let slots = share.iter().flat_map(|&index| take(&mut slots[index]));
            let inputs = shared
                .iter()
                .cloned()
                .chain(sums.into_iter().skip(share.len()))
                .chain(slots);
            Task::Apply(inputs.collect())
        });
        let tasks: Vec<Task> = tasks.collect();
        let outputs = self.team.run(tasks)?;

        let mut verdict = Vec::new();
        for (share, outputs) in self.shares.iter().zip(outputs) {
            let mut outputs = outputs.into_iter();
            verdict = outputs.by_ref().take(VERDICT).collect();
            for &index in share {
                slots[index] = outputs.by_ref().take(self.rules[index].arrays()).collect();
            }
        }
        put_slots(state, &slots)?;
        let [finite, loss, grad_norm] =
            <[Array; VERDICT]>::try_from(verdict).map_err(|_| anyhow!("an update function returned too little"))?;
        Ok(Verdict {
            finite,
            loss,
            grad_norm,
        })
    }

    /// For each thread, of its gradients, summed over the parts, the sums of squares, and those gradients.
    fn sum(&mut self, parts: Vec<Gradients>) -> Result<Vec<Vec<Array>>> {
        let tasks = self.shares.iter().map(|share| {
            let own = parts
                .iter()
                .flat_map(|part| share.iter().map(|&index| part.gradients[index].clone()));
            Task::Sum(own.collect())
        });
        let tasks: Vec<Task> = tasks.collect();
        drop(parts);
        self.team.run(tasks)
    }

    /// The state of each parameter, which leaves `state` empty.
    fn take_slots(&self, state: &mut TrainState) -> Vec<Vec<Array>> {
        let mut v = state.v.arrays().iter().cloned();
        let both = state.parameters.arrays().iter().zip(state.m.arrays());
        let slots = self.rules.iter().zip(both).map(|(rule, (parameter, m))| {
            let own_v = v.by_ref().take(rule.arrays() - 2);
            [parameter.clone(), m.clone()].into_iter().chain(own_v).collect()
        });
        let slots = slots.collect();
        for part in [&mut state.parameters, &mut state.m, &mut state.v] {
            part.release();
        }
        slots
    }
}

fn put_slots(state: &mut TrainState, slots: &[Vec<Array>]) -> MlxResult<()> {
    let column = |index: usize| slots.iter().filter_map(|slot| slot.get(index).cloned()).collect();
    for (index, part) in [&mut state.parameters, &mut state.m, &mut state.v]
        .into_iter()
        .enumerate()
    {
        *part = Parameters::new(&Arc::clone(part.names()), column(index))?;
    }
    Ok(())
}

/// The indices of `costs` in `threads` shares of about the same cost: each goes, the largest first, to the share that has
/// the least so far.
fn shares(costs: &[u64], threads: usize) -> Vec<Vec<usize>> {
    let mut shares = vec![(0, Vec::new()); threads.clamp(1, costs.len().max(1))];
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(costs[index]));
    for index in order {
        if let Some((cost, share)) = shares.iter_mut().min_by_key(|(cost, _)| *cost) {
            *cost += costs[index];
            share.push(index);
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

/// What a thread does whose parameters learn by those `rules`.
fn work(rules: Vec<Rule>, parts: usize, all: usize, grad_clip: f32) -> Work<Task> {
    let mut sum = compiled(sum(rules.len()));
    let mut apply = compiled(apply(rules, parts, all, grad_clip));
    Box::new(move |task| match task {
        Task::Sum(inputs) => sum(&inputs),
        Task::Apply(inputs) => apply(&inputs),
    })
}

/// The function of gradients, `count` of each part, to the sums of squares of their sums, and those.
fn sum(count: usize) -> impl FnMut(&[Array]) -> MlxResult<Vec<Array>> + 'static {
    move |gradients| {
        let mut sums = gradients[..count].to_vec();
        for part in gradients[count..].chunks(count) {
            for (sum, gradient) in sums.iter_mut().zip(part) {
                *sum = sum.add(gradient)?;
            }
        }
        let squares: MlxResult<Vec<Array>> = sums.iter().map(optimizer::sum_of_squares).collect();
        Ok(squares?.into_iter().chain(sums).collect())
    }
}

/// The function of `rates, losses of the parts, sums of squares of `all` gradients, own gradients…, own states…` to
/// `finite, loss, gradient norm, own states…`.
fn apply(
    rules: Vec<Rule>,
    parts: usize,
    all: usize,
    grad_clip: f32,
) -> impl FnMut(&[Array]) -> MlxResult<Vec<Array>> + 'static {
    move |inputs| {
        let (rates, inputs) = inputs.split_at(RATES);
        let (losses, inputs) = inputs.split_at(parts);
        let (squares, inputs) = inputs.split_at(all);
        let (gradients, mut states) = inputs.split_at(rules.len());
        let muon_lr = &rates[3];
        let rates = Rates {
            lr: &rates[0],
            correction1: &rates[1],
            correction2: &rates[2],
        };
        let loss = optimizer::total(losses)?;
        let norm = optimizer::global_norm(squares)?;
        let finite = ops::logical_and(loss.is_finite()?, norm.is_finite()?)?;
        let factor = (grad_clip > 0.0)
            .then(|| optimizer::clip_factor(&norm, grad_clip))
            .transpose()?;

        let mut outputs = vec![finite.clone(), loss, norm];
        for (rule, gradient) in rules.iter().zip(gradients) {
            let (old, others) = states.split_at(rule.arrays());
            states = others;
            let new = match &factor {
                Some(factor) => rule.update(old, &gradient.multiply(factor)?, &rates, muon_lr)?,
                None => rule.update(old, gradient, &rates, muon_lr)?,
            };
            for (new, old) in new.iter().zip(old) {
                outputs.push(ops::select(&finite, new, old)?);
            }
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_about_the_same_cost() {
        assert_eq!(shares(&[5, 9, 1, 4], 2), [vec![1, 2], vec![0, 3]]);
        assert_eq!(shares(&[5, 9], 5), [vec![1], vec![0]]);
        assert_eq!(shares(&[5, 9, 1], 1), [vec![1, 0, 2]]);
    }
}
