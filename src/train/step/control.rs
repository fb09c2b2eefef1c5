//! What becomes of a step, once its loss and its gradients are known: how far it goes, or that it is left out.

use mlx_rs::error::{Exception, Result};
use mlx_rs::{Array, ops};

use crate::train::optimizers::Rates;
use crate::train::optimizers::adamw::{self, BETA1};
use crate::train::optimizers::muon::{self, MOMENTUM};

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
    pub fn arrays(&self) -> [&Array; Judgement::SAID] {
        [&self.finite, &self.loss, &self.grad_norm]
    }
}

/// What differs from step to step: whether it is to change anything, 1 or 0, the learning rate, the corrections of AdamW's
/// averages, and Muon's learning rate.
pub type StepRates = [f32; STEP_RATES];

const STEP_RATES: usize = 5;

/// Comes to a judgement of each step.
#[derive(Clone, Copy)]
pub struct Judge {
    /// Losses that the step's is the sum of.
    pub parts: usize,
    /// The norm that gradients are clipped to; 0 for none.
    pub grad_clip: f32,
    pub beta2: f32,
}

impl Judge {
    /// Of [`StepRates`], losses of the parts, and sums of squares of all gradients.
    pub fn of(self, scalars: &[Array]) -> Result<Vec<Array>> {
        let Some(([taken, lr, correction1, correction2, muon_lr], scalars)) = scalars.split_first_chunk::<STEP_RATES>()
        else {
            return Err(Exception::custom("a step has five rates"));
        };
        let (losses, squares) = scalars.split_at(self.parts);
        let loss = adamw::total(losses)?;
        let norm = adamw::global_norm(squares)?;
        let finite = ops::logical_and(loss.is_finite()?, norm.is_finite()?)?;
        let factor = if self.grad_clip > 0.0 {
            adamw::clip_factor(&norm, self.grad_clip)?
        } else {
            Array::from_f32(1.0)
        };
        // A step that is left out is one that changes nothing, rather than a choice between old and new numbers: so MLX
        // can write new ones into the buffers of the old.
        let changes = ops::logical_and(&finite, taken.gt(Array::from_f32(0.0))?)?;
        let or = |usual: &Array, left_out: f32| ops::select(&changes, usual, Array::from_f32(left_out));
        let lr = or(lr, 0.0)?;
        let beta1 = or(&Array::from_f32(BETA1), 1.0)?;
        let beta2 = or(&Array::from_f32(self.beta2), 1.0)?;
        let muon_lr = or(muon_lr, 0.0)?;
        let momentum = or(&Array::from_f32(MOMENTUM), 1.0)?;
        Ok(vec![
            finite,
            loss,
            norm,
            changes,
            factor,
            lr,
            beta1,
            beta2,
            correction1.clone(),
            correction2.clone(),
            muon_lr,
            momentum,
        ])
    }
}

/// What a [`Judge`] came to, in the order in which it says it, among the inputs of a compiled function.
pub struct Judgement<'a>(&'a [Array; Judgement::ARRAYS]);

impl<'a> Judgement<'a> {
    const ARRAYS: usize = 12;
    /// Those of them, the first, that a [`Verdict`] has.
    pub const SAID: usize = 3;

    /// The arrays before it, and the judgement at the end.
    ///
    /// # Errors
    /// There is no judgement.
    pub fn split_from(inputs: &'a [Array]) -> Result<(&'a [Array], Self)> {
        let (arrays, judgement) = inputs
            .split_last_chunk()
            .ok_or_else(|| Exception::custom("a part of the update was given no judgement"))?;
        Ok((arrays, Self(judgement)))
    }

    /// A gradient as the step is taken by it: zeros where it is left out.
    pub fn clip(&self, gradient: &Array) -> Result<Array> {
        let [_finite, _loss, _norm, changes, factor, ..] = self.0;
        ops::select(changes, gradient.multiply(factor)?, Array::from_f32(0.0))
    }

    pub fn rates(&self) -> Rates {
        let [.., lr, beta1, beta2, correction1, correction2, muon_lr, momentum] = self.0.each_ref().map(Array::clone);
        Rates {
            adamw: adamw::Rates {
                lr,
                beta1,
                beta2,
                correction1,
                correction2,
            },
            muon: muon::Rates { lr: muon_lr, momentum },
        }
    }
}
