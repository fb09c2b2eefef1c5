//! What a run minimises: the loss of the next token, or an objective that tunes a trained model by rewards or preferences.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::TrainConfig;

/// Reinforcement learning from rewards that can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Rl {
    /// Group-relative policy optimisation (DeepSeekMath 2024): several answers to each problem, rewarded if they are right
    Grpo,
}

/// What a step minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Objective {
    /// The cross entropy of the next token.
    #[default]
    NextToken,
    /// Group-relative policy optimisation.
    Grpo {
        /// ε: the ratio of a token's probability to that when it was sampled is clipped to 1 ± ε.
        clip_range: f32,
        /// β: the factor of the KL divergence from the reference model.
        kl_coef: f32,
    },
    /// Direct preference optimisation.
    Dpo {
        /// β: the factor of log-ratios to the reference model, which makes them rewards.
        beta: f32,
    },
}

impl Objective {
    /// Rows that belong together: the two answers of a preference pair.
    pub fn rows_of_example(self) -> usize {
        match self {
            Self::NextToken | Self::Grpo { .. } => 1,
            Self::Dpo { .. } => 2,
        }
    }
}

/// Answers to each problem: as in many recipes for small models; DeepSeekMath has 64.
const DEFAULT_GROUP_SIZE: usize = 8;
/// DeepSeekMath 2024, section 4.2.
const DEFAULT_KL_COEF: f32 = 0.04;
/// PPO's (Schulman et al. 2017).
const DEFAULT_CLIP_RANGE: f32 = 0.2;
/// Rafailov et al. 2023, appendix B.
const DEFAULT_DPO_BETA: f32 = 0.1;

impl TrainConfig {
    /// What its steps minimise.
    pub fn objective(&self) -> Objective {
        match (self.rl, &self.preferences) {
            (Some(Rl::Grpo), _) => Objective::Grpo {
                clip_range: self.clip_range.unwrap_or(DEFAULT_CLIP_RANGE),
                kl_coef: self.kl_coef.unwrap_or(DEFAULT_KL_COEF),
            },
            (None, Some(_)) => Objective::Dpo {
                beta: self.dpo_beta.unwrap_or(DEFAULT_DPO_BETA),
            },
            (None, None) => Objective::NextToken,
        }
    }

    /// Answers to each problem, for GRPO.
    pub fn group_size(&self) -> usize {
        self.group_size.unwrap_or(DEFAULT_GROUP_SIZE)
    }

    /// The recipe that tunes a trained model: few steps at a low rate, without dropout, which would make the model differ from
    /// the one that answered.
    pub fn tune(&mut self, by: Objective) {
        self.dropout = 0.0;
        self.weight_decay = 0.0;
        self.grad_accum = 1;
        self.steps = 200;
        self.warmup = 10;
        (self.eval_every, self.save_every) = (50, 50);
        match by {
            Objective::Grpo { .. } => {
                (self.lr, self.min_lr) = (2e-4, 2e-5);
                self.batch_size = 16 * self.group_size();
                self.eval_batches = 1;
            }
            Objective::Dpo { .. } | Objective::NextToken => {
                (self.lr, self.min_lr) = (1e-4, 1e-5);
                self.batch_size = 16;
                self.corpus.clear();
            }
        }
    }

    pub(super) fn validate_objective(&self) -> Result<()> {
        let objective = self.objective();
        let what = match objective {
            Objective::NextToken => "the next token",
            Objective::Grpo { .. } => "rl grpo",
            Objective::Dpo { .. } => "preferences",
        };
        for (key, is_set, needs, fits) in [
            ("group-size", self.group_size.is_some(), "--rl grpo", self.rl.is_some()),
            ("kl-coef", self.kl_coef.is_some(), "--rl grpo", self.rl.is_some()),
            ("clip_range", self.clip_range.is_some(), "--rl grpo", self.rl.is_some()),
            (
                "dpo-beta",
                self.dpo_beta.is_some(),
                "--preferences",
                self.preferences.is_some(),
            ),
        ] {
            ensure!(
                !is_set || fits,
                "{key} is for {needs}; give that too, or leave {key} out"
            );
        }
        if objective == Objective::NextToken {
            return Ok(());
        }
        ensure!(
            self.init_from.is_some(),
            "{what} tunes a trained model; give one with --init-from"
        );
        ensure!(
            self.dropout == 0.0,
            "{what} compares the probabilities of one model at two times, which dropout would make another one; leave dropout {} out",
            self.dropout
        );
        ensure!(
            self.sync_every == 0,
            "{what} is trained on one machine; leave sync-every {} out",
            self.sync_every
        );
        ensure!(
            self.ngram_rows == 0,
            "{what} does not train the n-gram table of --arch modern; choose an --init-from without one"
        );
        match objective {
            Objective::Grpo { clip_range, kl_coef } => self.validate_grpo(clip_range, kl_coef),
            Objective::Dpo { beta } => self.validate_dpo(beta),
            Objective::NextToken => Ok(()),
        }
    }

    fn validate_grpo(&self, clip_range: f32, kl_coef: f32) -> Result<()> {
        ensure!(
            self.task.is_some(),
            "rl grpo needs problems whose answers can be checked; give --task addition or --task calculator"
        );
        ensure!(
            self.preferences.is_none(),
            "rl and preferences are two ways to tune a model; leave one of them out"
        );
        let group = self.group_size();
        ensure!(
            (2..=1024).contains(&group),
            "group-size is {group}; it must be from 2 to 1024, since answers are compared within a group"
        );
        ensure!(
            self.batch_size.is_multiple_of(group),
            "batch-size {} counts answers, and is no multiple of group-size {group}; choose {}",
            self.batch_size,
            self.batch_size.next_multiple_of(group)
        );
        ensure!(
            kl_coef >= 0.0 && kl_coef.is_finite(),
            "kl-coef is {kl_coef}; it must be a number, 0 or more"
        );
        ensure!(
            clip_range > 0.0 && clip_range < 1.0,
            "clip_range is {clip_range}; it must be above 0 and below 1"
        );
        Ok(())
    }

    fn validate_dpo(&self, beta: f32) -> Result<()> {
        let file = self.preferences.as_deref().unwrap_or_default();
        ensure!(
            self.corpus.is_empty() && self.task.is_none(),
            "preferences {file} are all that is trained on; leave corpus and task out"
        );
        ensure!(
            self.batch_size.is_multiple_of(2),
            "batch-size {} counts the two answers of each pair; choose {}",
            self.batch_size,
            self.batch_size + 1
        );
        ensure!(
            beta > 0.0 && beta.is_finite(),
            "dpo-beta is {beta}; it must be a number above 0"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Device, Preset, Task};

    #[test]
    fn what_does_not_go_together_is_refused_in_one_line() {
        let grpo = || TrainConfig {
            rl: Some(Rl::Grpo),
            task: Some(Task::Addition),
            corpus: String::new(),
            init_from: Some("run".into()),
            batch_size: 16,
            ..Preset::Nano.train_config(Device::Cpu)
        };
        grpo().validate_objective().unwrap();
        let dpo = || TrainConfig {
            preferences: Some("pairs.jsonl".into()),
            rl: None,
            task: None,
            ..grpo()
        };
        dpo().validate_objective().unwrap();
        type Change = fn(&mut TrainConfig);
        let changes: [(bool, Change, &str); 13] = [
            (true, |config| config.init_from = None, "--init-from"),
            (true, |config| config.dropout = 0.1, "leave dropout 0.1 out"),
            (true, |config| config.sync_every = 5, "sync-every 5"),
            (true, |config| config.ngram_rows = 1024, "n-gram table"),
            (true, |config| config.task = None, "--task addition"),
            (
                true,
                |config| config.preferences = Some("x".into()),
                "leave one of them out",
            ),
            (true, |config| config.group_size = Some(1), "from 2 to 1024"),
            (true, |config| config.batch_size = 12, "choose 16"),
            (true, |config| config.kl_coef = Some(-1.0), "kl-coef is -1"),
            (true, |config| config.clip_range = Some(1.0), "clip_range is 1"),
            (true, |config| config.dpo_beta = Some(0.1), "is for --preferences"),
            (false, |config| config.batch_size = 7, "choose 8"),
            (false, |config| config.dpo_beta = Some(0.0), "dpo-beta is 0"),
        ];
        for (is_grpo, change, named) in changes {
            let mut config = if is_grpo { grpo() } else { dpo() };
            change(&mut config);
            let error = config.validate_objective().unwrap_err().to_string();
            assert!(error.contains(named) && error.lines().count() == 1, "{error}");
        }
    }
}
