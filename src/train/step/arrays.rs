//! What the step's compiled functions take and return.

use mlx_rs::Array;

use crate::compute::compiled::arrays;

/// A parameter that learns, and its moments, which have its shape.
#[derive(Clone)]
pub struct ParameterState {
    pub parameter: Array,
    /// Running mean of the gradient.
    pub m: Array,
    /// Running mean of the squared gradient: AdamW has one, Muon has none.
    pub v: Option<Array>,
}

/// Rows of a micro-batch: those of one worker.
pub struct Rows {
    /// `[rows, T]`.
    pub inputs: Array,
    /// `[rows, T]`.
    pub targets: Array,
    /// Random keys of the dropout masks, `[sites, 2]`.
    pub dropout_keys: Array,
    /// What the loss is multiplied by before the backward pass: 1, but in float16.
    pub loss_scale: Array,
}

/// A loss, and its gradients in the order of the parameters that learn.
pub struct Gradients {
    /// Sum over the rows, divided by the tokens of the whole step: the losses of micro-batches and workers add up to the
    /// step's, in nats per token.
    pub loss: Array,
    pub gradients: Vec<Array>,
}

/// What differs from step to step: scalars.
#[derive(Clone)]
pub struct StepScalars {
    /// Whether parameters and moments are to change: those of a step that is only timed do not.
    pub updates: Array,
    pub lr: Array,
    pub muon_lr: Array,
    /// `1 / (1 - β₁ᵗ)` of step t, counted from 1.
    pub m_correction: Array,
    /// `1 / (1 - β₂ᵗ)`.
    pub v_correction: Array,
}

/// What is known of a step once it is computed: scalars.
pub struct StepMetrics {
    /// Before the update, in nats per token.
    pub loss: Array,
    /// Global norm of the gradient before clipping.
    pub grad_norm: Array,
    /// Whether the loss or a gradient is not finite: such a step changes nothing.
    pub found_inf: Array,
}

/// The whole step in one function returns [`StepOutputs`] of these.
pub struct StepInputs {
    pub states: Vec<ParameterState>,
    pub frozen: Vec<Array>,
    pub rows: Rows,
    pub scalars: StepScalars,
}

pub struct StepOutputs {
    pub metrics: StepMetrics,
    pub states: Vec<ParameterState>,
}

/// The forward and backward pass over some rows returns [`Gradients`] of these.
pub struct GradientInputs {
    /// Of the micro-batches before, to which those of this one are added.
    pub accumulated: Option<Gradients>,
    /// Parameters that learn.
    pub parameters: Vec<Array>,
    /// Parameters that do not.
    pub frozen: Vec<Array>,
    pub rows: Rows,
}

/// The gradients of some parameters by each of the gradient workers. Their sum over the workers returns
/// [`SummedGradients`].
pub struct WorkerGradients {
    pub gradients: Vec<Vec<Array>>,
}

pub struct SummedGradients {
    pub gradients: Vec<Array>,
    /// Of each gradient, the sum of its squares: a scalar.
    pub squares: Vec<Array>,
}

/// The update of some parameters returns [`StepOutputs`] of these.
pub struct UpdateInputs {
    /// Of each of the gradient workers.
    pub losses: Vec<Array>,
    /// As in [`SummedGradients`], of all parameters, those of other workers too; none where one function updates all.
    pub squares: Option<Vec<Array>>,
    pub gradients: Vec<Array>,
    pub states: Vec<ParameterState>,
    pub scalars: StepScalars,
}

arrays! {
    ParameterState { parameter, m, v }
    Rows { inputs, targets, dropout_keys, loss_scale }
    Gradients { loss, gradients }
    StepScalars { updates, lr, muon_lr, m_correction, v_correction }
    StepMetrics { loss, grad_norm, found_inf }
    StepInputs { states, frozen, rows, scalars }
    StepOutputs { metrics, states }
    GradientInputs { accumulated, parameters, frozen, rows }
    WorkerGradients { gradients }
    SummedGradients { gradients, squares }
    UpdateInputs { losses, squares, gradients, states, scalars }
}
