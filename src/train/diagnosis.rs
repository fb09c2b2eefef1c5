//! What a finished run says about itself: the usual reasons why a loss is not lower, each with what to do about it.

use rustc_hash::FxHashSet;

use super::metrics::EvaluationRecord;
use super::session::Session;
use crate::data::tokens::Tokens;
use crate::terminal::amount::amount;
use crate::terminal::shell::quoted;

/// The most findings that are given.
const MOST: usize = 3;
/// Estimated losses differ by less than this from one evaluation to the next without a reason, in nats.
const NOISE: f64 = 0.03;
/// Tokens of a passage that is looked for in the training text.
const PASSAGE: usize = 32;
/// Passages of the validation text that are looked for.
const PASSAGES: usize = 2000;
/// The most training tokens that are searched.
const SEARCHED: usize = 20_000_000;

/// What is known of a finished run.
struct Facts {
    /// All evaluations, the first one at step 0.
    evaluations: Vec<EvaluationRecord>,
    /// Returns to an earlier checkpoint, after a spike.
    retries: u32,
    /// Steps that were skipped because they were not finite.
    skipped: u64,
    lr: f32,
    steps: u64,
    /// Parameters that are trained; none where only a part is, since its size says nothing then.
    parameters: Option<usize>,
    train_tokens: usize,
    /// Tokens of all steps.
    seen_tokens: f64,
    /// Part of the validation text's passages that stand in the training text too.
    repeated: f64,
    run: String,
}

/// At most three findings on a run that has finished on a text, a sentence each, the most important first; none where nothing
/// stands out.
pub fn diagnose(session: &Session) -> Vec<String> {
    let (Some(train), Some(val)) = (session.train.tokens(), session.val.tokens()) else {
        return Vec::new();
    };
    let config = session.config();
    let (trainable, all) = session.parameter_counts();
    let facts = Facts {
        evaluations: session.metrics.evaluations().copied().collect(),
        retries: session.state.retry,
        skipped: session.steps_skipped(),
        lr: config.lr,
        steps: session.step(),
        parameters: (trainable == all && config.init_from.is_none()).then_some(all),
        train_tokens: train.len(),
        seen_tokens: session.step() as f64 * config.tokens_per_step() as f64,
        repeated: repeated(train, val),
        run: quoted(&session.run().folder),
    };
    // A run of minutes is not trained longer by more steps.
    let findings = facts.findings().into_iter();
    findings
        .filter(|finding| config.minutes.is_none() || !finding.contains("--schedule-steps"))
        .collect()
}

impl Facts {
    fn findings(&self) -> Vec<String> {
        let [first, .., last] = &self.evaluations[..] else {
            return Vec::new();
        };
        let by_val = |a: &&EvaluationRecord, b: &&EvaluationRecord| a.val_loss.total_cmp(&b.val_loss);
        let best = self.evaluations.iter().min_by(by_val).unwrap_or(last);
        let overfits = last.val_loss > best.val_loss + NOISE && last.train_loss < best.train_loss;
        let all = [
            self.high_rate(last),
            overfits.then(|| self.overfitting(best, last)),
            self.leak(),
            overfits.then(|| self.small_text()).flatten(),
            self.short(overfits, first, last),
            self.small_model(last),
        ];
        all.into_iter().flatten().take(MOST).collect()
    }

    fn high_rate(&self, last: &EvaluationRecord) -> Option<String> {
        let lowest = self
            .evaluations
            .iter()
            .map(|line| line.train_loss)
            .fold(f64::INFINITY, f64::min);
        let sign = if self.retries > 0 {
            "the loss rose far above its level once".to_owned()
        } else if self.skipped > 0 {
            format!("{} step(s) were not finite", self.skipped)
        } else if last.train_loss > lowest + 3.0 * NOISE {
            format!(
                "the training loss was {lowest:.2} and is {:.2} at the end",
                last.train_loss
            )
        } else {
            return None;
        };
        Some(format!(
            "the learning rate may be too high: {sign}; try --lr {}",
            self.lr / 2.0
        ))
    }

    fn overfitting(&self, best: &EvaluationRecord, last: &EvaluationRecord) -> String {
        format!(
            "it overfits since step {}: the validation loss was {:.2} then and is {:.2} now, while the training loss fell from {:.2} to {:.2}; generate and other commands use the model of then, {}/best; --dropout 0.2 or fewer --steps keep it from that",
            best.step, best.val_loss, last.val_loss, best.train_loss, last.train_loss, self.run
        )
    }

    fn leak(&self) -> Option<String> {
        (self.repeated > 0.2).then(|| {
            format!(
                "{:.0} % of the validation text stands in the training text too, word for word, so its loss says little about new text; leave repeated passages out of the corpus",
                100.0 * self.repeated
            )
        })
    }

    fn small_text(&self) -> Option<String> {
        let parameters = self
            .parameters
            .filter(|&parameters| parameters > 2 * self.train_tokens)?;
        Some(format!(
            "the text is small for this model: {} tokens for {} parameters; more text helps most, else a smaller --embd or fewer --layers",
            amount(self.train_tokens),
            amount(parameters)
        ))
    }

    /// The times that the text was seen.
    fn passes(&self) -> f64 {
        self.seen_tokens / self.train_tokens as f64
    }

    fn short(&self, overfits: bool, first: &EvaluationRecord, last: &EvaluationRecord) -> Option<String> {
        let learned = last.val_loss < first.val_loss - NOISE;
        (self.passes() < 3.0 && !overfits && learned && last.val_loss - last.train_loss < 0.3).then(|| {
            let steps = 4 * self.steps;
            format!(
                "it saw its text {:.1} times and does not overfit, so longer training helps: train --resume {} --steps {steps} --schedule-steps {steps}",
                self.passes(),
                self.run
            )
        })
    }

    fn small_model(&self, last: &EvaluationRecord) -> Option<String> {
        let fits = self.parameters.is_some() && self.passes() >= 3.0 && last.val_loss - last.train_loss < 2.0 * NOISE;
        fits.then(|| {
            format!(
                "training and validation loss are the same after {:.0} passes through the text, so a larger model helps: more --embd and --layers",
                self.passes()
            )
        })
    }
}

/// The part of evenly spaced passages of `val` that stand in `train`; 0 where there is too much to search.
fn repeated(train: &Tokens, val: &Tokens) -> f64 {
    if train.len() > SEARCHED || val.len() < PASSAGE || train.len() < PASSAGE {
        return 0.0;
    }
    let mut ids = Vec::with_capacity(PASSAGE);
    let possible = val.len() - PASSAGE + 1;
    let count = PASSAGES.min(possible);
    let passages: Vec<u64> = (0..count)
        .map(|passage| {
            ids.clear();
            val.read(passage * possible / count, PASSAGE, &mut ids);
            rolling(&ids)
        })
        .collect();
    let wanted: FxHashSet<u64> = passages.iter().copied().collect();
    let mut all = Vec::with_capacity(train.len());
    train.read(0, train.len(), &mut all);
    let mut found: FxHashSet<u64> = FxHashSet::default();
    let mut hash = rolling(&all[..PASSAGE]);
    let mut visit = |hash: u64| {
        if wanted.contains(&hash) {
            found.insert(hash);
        }
    };
    visit(hash);
    let leaving = MULTIPLIER.wrapping_pow(PASSAGE as u32);
    for (out, incoming) in all.iter().zip(&all[PASSAGE..]) {
        hash = next(hash, *incoming).wrapping_sub(term(*out).wrapping_mul(leaving));
        visit(hash);
    }
    let repeated = passages.iter().filter(|hash| found.contains(hash));
    repeated.count() as f64 / passages.len() as f64
}

/// Multiplier of the polynomial of a passage (Karp and Rabin 1987), modulo 2^64.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

fn term(id: u32) -> u64 {
    u64::from(id) + 1
}

fn next(hash: u64, id: u32) -> u64 {
    hash.wrapping_mul(MULTIPLIER).wrapping_add(term(id))
}

fn rolling(ids: &[u32]) -> u64 {
    ids.iter().fold(0, |hash, &id| next(hash, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(losses: &[(u64, f64, f64)]) -> Facts {
        let evaluations = losses.iter().map(|&(step, train_loss, val_loss)| EvaluationRecord {
            step,
            train_loss,
            val_loss,
            accuracy: None,
        });
        Facts {
            evaluations: evaluations.collect(),
            retries: 0,
            skipped: 0,
            lr: 0.001,
            steps: 1000,
            parameters: Some(800_000),
            train_tokens: 1_000_000,
            seen_tokens: 10e6,
            repeated: 0.0,
            run: "runs/a".into(),
        }
    }

    fn has(found: &[String], words: &[&str]) {
        assert_eq!(found.len(), words.len(), "{found:?}");
        assert!(
            found.iter().zip(words).all(|(found, word)| found.contains(word)),
            "{found:?}"
        );
    }

    #[test]
    fn each_reason_is_found_and_a_good_run_has_none() {
        let good = [(0, 4.2, 4.2), (500, 1.6, 1.75), (1000, 1.4, 1.6)];
        has(&facts(&good).findings(), &[]);
        has(&facts(&[]).findings(), &[]);

        let overfitted = facts(&[(0, 4.2, 4.2), (500, 1.5, 1.7), (1000, 0.9, 1.9)]);
        has(&overfitted.findings(), &["overfits since step 500"]);
        has(
            &Facts {
                train_tokens: 20_000,
                ..overfitted
            }
            .findings(),
            &["overfits since step 500", "text is small"],
        );
        let diverged = [(0, 4.2, 4.2), (500, 1.6, 1.75), (1000, 2.4, 2.6)];
        has(
            &facts(&diverged).findings(),
            &["was 1.60 and is 2.40 at the end; try --lr 0.0005"],
        );
        has(
            &Facts {
                retries: 1,
                ..facts(&good)
            }
            .findings(),
            &["rose far above"],
        );
        has(
            &Facts {
                skipped: 2,
                ..facts(&good)
            }
            .findings(),
            &["2 step(s) were not finite"],
        );
        has(
            &Facts {
                repeated: 0.5,
                ..facts(&good)
            }
            .findings(),
            &["50 % of the validation text"],
        );
        has(
            &Facts {
                seen_tokens: 1e6,
                ..facts(&good)
            }
            .findings(),
            &["--steps 4000 --schedule-steps 4000"],
        );
        let equal = [(0, 4.2, 4.2), (500, 1.9, 1.91), (1000, 1.8, 1.81)];
        has(&facts(&equal).findings(), &["larger model"]);
        has(
            &Facts {
                parameters: None,
                ..facts(&equal)
            }
            .findings(),
            &[],
        );
        let most = Facts {
            retries: 1,
            repeated: 0.5,
            train_tokens: 20_000,
            ..facts(&[(0, 4.2, 4.2), (500, 1.5, 1.7), (1000, 0.9, 1.9)])
        };
        assert_eq!(most.findings().len(), MOST);
    }

    #[test]
    fn passages_of_the_training_text_are_found_in_the_validation_text() {
        let text = |seed: u64, count: u32| -> Vec<u32> {
            (0..count)
                .map(|n| (seed.wrapping_mul(u64::from(n) + 7).wrapping_mul(MULTIPLIER) >> 40) as u32 % 60)
                .collect()
        };
        let train = text(1, 5000);
        let new = text(2, 600);
        assert_eq!(
            repeated(&Tokens::Memory(train.clone()), &Tokens::Memory(new.clone())),
            0.0
        );
        let copied = train[4000..4600].to_vec();
        assert_eq!(
            repeated(&Tokens::Memory(train.clone()), &Tokens::Memory(copied.clone())),
            1.0
        );
        let half = [copied, new].concat();
        let found = repeated(&Tokens::Memory(train), &Tokens::Memory(half));
        assert!((0.45..0.55).contains(&found), "{found}");
    }
}
