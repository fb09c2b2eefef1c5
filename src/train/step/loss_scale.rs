//! Dynamic loss scaling in float16 (Micikevicius et al. 2018, section 3.2), with the constants of PyTorch's GradScaler
//! except for a smaller first scale and a maximum, which GradScaler does not have.

use crate::checkpoint::LossScale;

/// The scale of the first step.
const INITIAL_SCALE: f32 = 1024.0;

/// Finite steps after which the scale is doubled.
const GROWTH_INTERVAL: u32 = 2000;

/// Twice this overflows float16.
const MAX_SCALE: f32 = 32768.0;

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: INITIAL_SCALE,
            finite_steps: 0,
        }
    }
}

impl LossScale {
    /// The scale after a finite step.
    pub fn after_finite_step(self) -> Self {
        if self.finite_steps + 1 < GROWTH_INTERVAL || self.scale >= MAX_SCALE {
            return Self {
                finite_steps: (self.finite_steps + 1).min(GROWTH_INTERVAL),
                ..self
            };
        }
        Self {
            scale: 2.0 * self.scale,
            finite_steps: 0,
        }
    }

    /// The smaller scale to retry a step with whose gradients overflowed; `None` at 1, where scaling is not the cause.
    pub fn backed_off(self) -> Option<Self> {
        (self.scale > 1.0).then_some(Self {
            scale: self.scale / 2.0,
            finite_steps: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_after_the_interval_and_backs_off_down_to_one() {
        let mut scale = LossScale::default();
        for _ in 0..GROWTH_INTERVAL {
            scale = scale.after_finite_step();
        }
        assert_eq!((scale.scale, scale.finite_steps), (2.0 * INITIAL_SCALE, 0));
        for _ in 0..20 * GROWTH_INTERVAL {
            scale = scale.after_finite_step();
        }
        assert_eq!(scale.scale, MAX_SCALE);
        let mut tried = 0;
        while let Some(lower) = scale.backed_off() {
            (scale, tried) = (lower, tried + 1);
        }
        assert_eq!((scale.scale, tried), (1.0, 15));
    }
}
