//! The optimizer's update of all parameters, each thread's of its share of them.

use std::mem::take;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;

use super::TrainState;
use super::control::{Judge, Judgement, StepRates, Verdict};
use super::workers::Gradients;
use crate::compute::compiled::compiled;
use crate::compute::workers::{Team, Work};
use crate::config::{ModelConfig, TrainConfig};
use crate::model::parameters::Parameters;
use crate::train::optimizers::Rule;
use crate::train::optimizers::adamw;

/// Changes parameters and moments by gradients.
pub struct Update {
    rules: Vec<Rule>,
    /// The parameters of each thread, by their numbers.
    shares: Vec<Vec<usize>>,
    team: Team<Task>,
}

enum Task {
    /// Gradients of the thread's parameters, of each part.
    Sum(Vec<Array>),
    Apply {
        /// What a [`Judge`] judges by.
        scalars: Vec<Array>,
        /// Of the thread's parameters, summed over the parts.
        gradients: Vec<Array>,
        parameters: Vec<Array>,
        /// Those of each parameter after those of the one before.
        moments: Vec<Array>,
    },
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
        let judge = Judge {
            parts,
            grad_clip: config.grad_clip,
            beta2: config.beta2,
        };
        let own_rules: Vec<Vec<Rule>> = shares
            .iter()
            .map(|share| share.iter().map(|&index| rules[index].clone()).collect())
            .collect();
        let make = move |thread: usize| work(own_rules[thread].clone(), judge);
        let team = match config.threads {
            0 | 1 => Team::inline(make(0)),
            _ => Team::of_threads("update", shares.len(), make)?,
        };
        Ok(Self { rules, shares, team })
    }

    /// Takes one step by the sum of the parts' gradients. Where loss or gradients are not finite, the state stays as it
    /// is. Its old arrays go to the team, so that MLX may write the new ones into their buffers.
    ///
    /// # Errors
    /// MLX's, or a thread that ended; the state is of no use after that.
    pub fn apply(&mut self, state: &mut TrainState, parts: Vec<Gradients>, rates: StepRates) -> Result<Verdict> {
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
        let mut scalars: Vec<Array> = rates.map(Array::from_f32).into();
        scalars.extend(losses.into_iter().chain(squares));
        let mut slots = self.take_slots(state);
        let tasks = self.shares.iter().zip(sums).map(|(share, mut sums)| {
            let (mut parameters, mut moments) = (Vec::new(), Vec::new());
            for &index in share {
                let slot = take(&mut slots[index]);
                parameters.extend(slot.parameter);
                moments.extend(slot.moments);
            }
            Task::Apply {
                scalars: scalars.clone(),
                gradients: sums.split_off(share.len()),
                parameters,
                moments,
            }
        });
        let tasks: Vec<Task> = tasks.collect();
        let outputs = self.team.run(tasks)?;

        let mut verdict = Vec::new();
        for (share, outputs) in self.shares.iter().zip(outputs) {
            let mut outputs = outputs.into_iter();
            verdict = outputs.by_ref().take(Judgement::SAID).collect();
            for &index in share {
                slots[index].parameter = outputs.next();
            }
            for &index in share {
                slots[index].moments = outputs.by_ref().take(self.rules[index].moments()).collect();
            }
        }
        put_slots(state, &slots)?;
        let [finite, loss, grad_norm] = <[Array; Judgement::SAID]>::try_from(verdict)
            .map_err(|_| anyhow!("an update function returned too little"))?;
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
    fn take_slots(&self, state: &mut TrainState) -> Vec<Slot> {
        let mut v = state.v.arrays().iter().cloned();
        let both = state.parameters.arrays().iter().zip(state.m.arrays());
        let slots = self.rules.iter().zip(both).map(|(rule, (parameter, m))| Slot {
            parameter: Some(parameter.clone()),
            moments: [m.clone()]
                .into_iter()
                .chain(v.by_ref().take(rule.moments() - 1))
                .collect(),
        });
        let slots = slots.collect();
        for part in [&mut state.parameters, &mut state.m, &mut state.v] {
            part.release();
        }
        slots
    }
}

/// A parameter and its moments, m and v; empty while a thread has them.
#[derive(Default)]
struct Slot {
    parameter: Option<Array>,
    moments: Vec<Array>,
}

fn put_slots(state: &mut TrainState, slots: &[Slot]) -> MlxResult<()> {
    let moments = |index: usize| {
        slots
            .iter()
            .filter_map(|slot| slot.moments.get(index).cloned())
            .collect()
    };
    let columns = [
        slots.iter().filter_map(|slot| slot.parameter.clone()).collect(),
        moments(0),
        moments(1),
    ];
    for (part, column) in [&mut state.parameters, &mut state.m, &mut state.v]
        .into_iter()
        .zip(columns)
    {
        *part = Parameters::new(&Arc::clone(part.names()), column)?;
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
///
/// The update is a chain of compiled functions, each of which changes every array once. In one function MLX would fuse
/// what makes two of them into one operation, and writes results of an operation into its inputs' buffers only if there
/// is a single result: of a large model the step would take half as much memory again.
fn work(rules: Vec<Rule>, judge: Judge) -> Work<Task> {
    let mut sum = compiled(sum(rules.len()));
    let mut judge = compiled(move |scalars: &[Array]| judge.of(scalars));
    let mut clip = compiled(clip);
    let mut next_moments = compiled(next_moments(rules.clone()));
    let mut next_parameters = compiled(next_parameters(rules));
    Box::new(move |task| match task {
        Task::Sum(gradients) => sum(&gradients),
        Task::Apply {
            scalars,
            gradients,
            parameters,
            moments,
        } => {
            let judgement = judge(&scalars)?;
            let gradients = clip(&[&gradients[..], &judgement].concat())?;
            let moments = next_moments(&[&gradients[..], &moments, &judgement].concat())?;
            let parameters = next_parameters(&[&gradients[..], &parameters, &moments, &judgement].concat())?;
            Ok([&judgement[..Judgement::SAID], &parameters, &moments].concat())
        }
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
        let squares: MlxResult<Vec<Array>> = sums.iter().map(adamw::sum_of_squares).collect();
        Ok(squares?.into_iter().chain(sums).collect())
    }
}

/// The function of `gradients…, judgement…` to the gradients that the step is taken by.
fn clip(inputs: &[Array]) -> MlxResult<Vec<Array>> {
    let (gradients, judgement) = Judgement::split_from(inputs)?;
    gradients.iter().map(|gradient| judgement.clip(gradient)).collect()
}

/// The function of `gradients…, moments…, judgement…` to the moments after the step.
fn next_moments(rules: Vec<Rule>) -> impl FnMut(&[Array]) -> MlxResult<Vec<Array>> + 'static {
    move |inputs| {
        let (arrays, judgement) = Judgement::split_from(inputs)?;
        let rates = judgement.rates();
        let (gradients, mut moments) = arrays.split_at(rules.len());
        let mut next = Vec::with_capacity(moments.len());
        for (rule, gradient) in rules.iter().zip(gradients) {
            let (old, others) = moments.split_at(rule.moments());
            moments = others;
            next.extend(rule.next_moments(old, gradient, &rates)?);
        }
        Ok(next)
    }
}

/// The function of `gradients…, parameters…, moments after the step…, judgement…` to the parameters after the step.
fn next_parameters(rules: Vec<Rule>) -> impl FnMut(&[Array]) -> MlxResult<Vec<Array>> + 'static {
    move |inputs| {
        let (arrays, judgement) = Judgement::split_from(inputs)?;
        let rates = judgement.rates();
        let (gradients, arrays) = arrays.split_at(rules.len());
        let (parameters, mut moments) = arrays.split_at(rules.len());
        let mut next = Vec::with_capacity(rules.len());
        for ((rule, gradient), parameter) in rules.iter().zip(gradients).zip(parameters) {
            let (own, others) = moments.split_at(rule.moments());
            moments = others;
            next.push(rule.next_parameter(parameter, own, gradient, &rates)?);
        }
        Ok(next)
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
