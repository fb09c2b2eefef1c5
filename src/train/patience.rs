//! Ends a run whose validation loss no longer falls.

use super::metrics::EvaluationRecord;
use super::session::Session;

/// Evaluations after the one with the lowest validation loss, the first of several equal ones; none before the first evaluation.
fn since_lowest<'a>(evaluations: impl Iterator<Item = &'a EvaluationRecord>) -> Option<u64> {
    let mut lowest: Option<(f64, u64)> = None;
    for line in evaluations {
        lowest = match lowest {
            Some((loss, since)) if loss <= line.val_loss => Some((loss, since + 1)),
            _ => Some((line.val_loss, 0)),
        };
    }
    lowest.map(|(_, since)| since)
}

impl Session {
    /// Whether the validation loss has not fallen for as many evaluations as `patience` allows.
    pub fn out_of_patience(&self) -> bool {
        let patience = self.config.patience;
        patience > 0 && since_lowest(self.metrics.evaluations()).is_some_and(|since| since >= patience)
    }

    /// Whether the last evaluation's validation loss is the lowest and is to be kept, as the run may end there.
    pub(super) fn keeps_lowest(&self) -> bool {
        self.config.patience > 0 && since_lowest(self.metrics.evaluations()) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_since_the_lowest_are_counted() {
        for (losses, expected) in [
            (&[][..], None),
            (&[2.0], Some(0)),
            (&[2.0, 1.0], Some(0)),
            (&[2.0, 1.0, 1.5, 1.0], Some(2)),
            (&[2.0, 1.0, 1.5, 0.9], Some(0)),
        ] {
            let lines: Vec<EvaluationRecord> = losses
                .iter()
                .map(|&val_loss| EvaluationRecord {
                    step: 0,
                    train_loss: 0.0,
                    val_loss,
                    accuracy: None,
                })
                .collect();
            assert_eq!(since_lowest(lines.iter()), expected, "{losses:?}");
        }
    }
}
