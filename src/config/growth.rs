//! Batches that grow over the first steps of a run.

use super::TrainConfig;

impl TrainConfig {
    /// The rows that a micro-batch has, each with the step (from 0) that has them first: those of `batch_start`, doubled
    /// at even distances over the first `batch_ramp` steps, until they are `batch_size`. Growing batches quiet the
    /// gradient's noise as a falling rate does (Smith et al. 2018), and early steps cost less.
    pub fn batch_growth(&self) -> Vec<(u64, usize)> {
        let start = self.batch_start.unwrap_or(self.batch_size).max(1);
        let small: Vec<usize> = std::iter::successors(Some(start), |rows| rows.checked_mul(2))
            .take_while(|&rows| rows < self.batch_size)
            .collect();
        let count = small.len().max(1) as u64;
        let grown = small.into_iter().chain([self.batch_size]);
        (0..)
            .map(|index| (index * self.batch_ramp).div_ceil(count))
            .zip(grown)
            .collect()
    }

    /// Tokens that the optimizer step `step`, from 0, learns from.
    pub fn tokens_at(&self, step: u64) -> usize {
        self.rows_at(step) * self.context * self.grad_accum
    }

    /// The rows of each micro-batch of `step`.
    pub fn rows_at(&self, step: u64) -> usize {
        let growth = self.batch_growth();
        let begun = growth.iter().rev().find(|(first, _)| *first <= step);
        begun.map_or(self.batch_size, |(_, rows)| *rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Device;
    use crate::config::Preset;

    #[test]
    fn batches_double_at_even_distances() {
        let growth = |start, size, ramp| {
            let config = TrainConfig {
                batch_start: start,
                batch_size: size,
                batch_ramp: ramp,
                ..Preset::Nano.train(Device::Cpu)
            };
            let growth = config.batch_growth();
            for (index, &(first, rows)) in growth.iter().enumerate() {
                let next = growth.get(index + 1).map_or(first + 5, |next| next.0);
                assert!((first..next).all(|step| config.rows_at(step) == rows));
            }
            growth
        };
        assert_eq!(growth(None, 12, 0), [(0, 12)]);
        assert_eq!(growth(Some(2), 12, 30), [(0, 2), (10, 4), (20, 8), (30, 12)]);
        assert_eq!(growth(Some(1), 4, 5), [(0, 1), (3, 2), (5, 4)]);
        // No more rows to begin with, or fewer steps than doublings.
        assert_eq!(growth(Some(12), 12, 30), [(0, 12)]);
        assert_eq!(growth(Some(1), 8, 1), [(0, 1), (1, 2), (1, 4), (1, 8)]);
    }
}
