//! A step by code of the library's user.

use anyhow::Result;
use mlx_rs::error::{Exception, Result as MlxResult};

use super::arrays::{StepMetrics, StepScalars};
use super::control::StepControl;
use super::state::TrainState;
use crate::data::batches::Batch;
use crate::model::parameters::Parameters;
use crate::train::own::{OwnStep, OwnTraining};

/// A step of one's own; it changes nothing where it is not finite, or only timed.
pub fn call(
    own: &mut dyn OwnTraining,
    state: &mut TrainState,
    batch: &Batch,
    scalars: &StepScalars,
) -> Result<StepMetrics> {
    let old = [&state.parameters, &state.m, &state.v];
    let OwnStep {
        loss,
        grad_norm,
        state: new,
    } = own.step(old, batch, state.step + 1)?;
    let control = StepControl::new(&[loss], &[grad_norm.square()?], scalars, 0.0)?;
    let [parameters, m, v] = [0, 1, 2].map(|part| -> MlxResult<Parameters> {
        let pairs = old[part].iter().map(|(name, old)| {
            let new = new[part].get(name)?;
            if new.shape() != old.shape() {
                let (new, old) = (new.shape(), old.shape());
                return Err(Exception::custom(format!(
                    "the step made {name} {old:?} an array {new:?}"
                )));
            }
            Ok((name.to_owned(), control.select(old, new)?))
        });
        Ok(Parameters::from_entries(pairs.collect::<MlxResult<_>>()?))
    });
    (state.parameters, state.m, state.v) = (parameters?, m?, v?);
    Ok(control.metrics)
}
