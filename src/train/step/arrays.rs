//! Inputs and outputs of the step's compiled functions.

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

/// Inputs of the whole step as one function.
pub struct StepInputs {
    pub states: Vec<ParameterState>,
    pub frozen: Vec<Array>,
    pub rows: Rows,
    pub scalars: StepScalars,
}

/// Outputs of the whole step, or of the update.
pub struct StepOutputs {
    pub metrics: StepMetrics,
    pub states: Vec<ParameterState>,
}

/// Inputs of the forward and backward pass over some rows, whose outputs are [`Gradients`].
pub struct GradientInputs {
    /// Those of the micro-batches before, to which these are added.
    pub accumulated: Option<Gradients>,
    /// Parameters that learn.
    pub parameters: Vec<Array>,
    /// Parameters that do not.
    pub frozen: Vec<Array>,
    pub rows: Rows,
}

/// Inputs of the sum over workers: of each worker, the gradients of some parameters.
pub struct WorkerGradients {
    pub gradients: Vec<Vec<Array>>,
}

/// Outputs of the sum over workers.
pub struct SummedGradients {
    pub gradients: Vec<Array>,
    /// Of each of these, the sum of squares, a scalar.
    pub squares: Vec<Array>,
}

/// Inputs of the update of some parameters.
pub struct UpdateInputs {
    /// The loss of each gradient worker.
    pub losses: Vec<Array>,
    /// The sums of squares of the gradients of all parameters, those of other workers too. None where one function updates
    /// all parameters: it computes them.
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
