//! How float16 losses are scaled: as high as gradients stay finite (Micikevicius et al. 2018, section 3.2).

use crate::checkpoint::LossScale;

/// Where it begins.
const FIRST: f32 = 1024.0;

/// Finite steps after which twice the scale is tried, as in PyTorch's GradScaler.
const PATIENCE: u32 = 2000;

/// Twice this is more than float16 can hold.
const MOST: f32 = 32768.0;

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: FIRST,
            finite_steps: 0,
        }
    }
}

impl LossScale {
    /// After a finite step.
    pub fn after_finite_step(self) -> Self {
        if self.finite_steps + 1 < PATIENCE || self.scale >= MOST {
            return Self {
                finite_steps: (self.finite_steps + 1).min(PATIENCE),
                ..self
            };
        }
        Self {
            scale: 2.0 * self.scale,
            finite_steps: 0,
        }
    }

    /// What to try the same step with again after its gradients overflowed; none once it cannot be the scale's fault.
    pub fn lowered(self) -> Option<Self> {
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
    fn it_doubles_after_patience_and_halves_down_to_one() {
        let mut scale = LossScale::default();
        for _ in 0..PATIENCE {
            scale = scale.after_finite_step();
        }
        assert_eq!((scale.scale, scale.finite_steps), (2.0 * FIRST, 0));
        for _ in 0..20 * PATIENCE {
            scale = scale.after_finite_step();
        }
        assert_eq!(scale.scale, MOST);
        let mut tried = 0;
        while let Some(lower) = scale.lowered() {
            (scale, tried) = (lower, tried + 1);
        }
        assert_eq!((scale.scale, tried), (1.0, 15));
    }
}
