//! Inputs and outputs of the step's compiled functions.

use mlx_rs::Array;

use super::objective::ObjectiveArrays;
use crate::compute::compiled::array_tree;

/// A trainable parameter of any shape, and its moments of the same shape.
#[derive(Clone)]
pub struct ParameterState {
    /// The parameter itself, float32.
    pub parameter: Array,
    /// Running mean of the gradient.
    pub m: Array,
    /// Running mean of the squared gradient: AdamW has one, Muon has none.
    pub v: Option<Array>,
}

/// One worker's rows of a micro-batch.
pub struct WorkerBatch {
    /// `[rows, T]`.
    pub inputs: Array,
    /// `[rows, T]`; any token where the target is ignored.
    pub targets: Array,
    /// Which targets count, if not all of the step's.
    pub loss_mask: Option<LossMask>,
    /// What the loss depends on, if it is not that of the next token.
    pub objective: Option<ObjectiveArrays>,
    /// For each n-gram size the row of the n-gram table for each token, `[rows, T]`, among the rows that the step has. None if
    /// it has the whole table, or the model has none.
    pub ngram_rows: Vec<Array>,
    /// Random keys of the dropout masks, `[sites, 2]`.
    pub dropout_keys: Array,
    /// Factor of the loss before the backward pass, a scalar: 1, but in float16.
    pub loss_scale: Array,
}

/// The targets of some rows that are not ignored.
pub struct LossMask {
    /// `[rows, T]`, true for targets that count.
    pub counted: Array,
    /// 1 over the number of targets that count in the whole step, a scalar.
    pub inverse_count: Array,
}

/// A loss, and its gradients in the order of the trainable parameters.
pub struct Gradients {
    /// Sum over the rows, divided by the targets of the whole step: the losses of micro-batches and workers add up to the
    /// step's, in nats per token. A scalar.
    pub loss: Array,
    /// What an objective tells beside its loss, scalars that add up to the step's as the losses do.
    pub terms: Vec<Array>,
    /// Of the shapes of their parameters.
    pub gradients: Vec<Array>,
}

/// The inputs that differ from step to step: scalars.
#[derive(Clone)]
pub struct StepScalars {
    /// Whether parameters and moments change; not in a step that is only timed.
    pub updates: Array,
    /// AdamW's learning rate.
    pub lr: Array,
    /// Muon's learning rate.
    pub muon_lr: Array,
    /// `1 / (1 - β₁ᵗ)` of step t, counted from 1.
    pub m_correction: Array,
    /// `1 / (1 - β₂ᵗ)`.
    pub v_correction: Array,
}

/// The metrics of a step: scalars.
pub struct StepMetrics {
    /// Before the update, in nats per token.
    pub loss: Array,
    /// Global norm of the gradient before clipping.
    pub grad_norm: Array,
    /// Whether the loss or a gradient is not finite: then parameters and moments do not change.
    pub found_inf: Array,
    /// What an objective tells beside its loss.
    pub terms: Vec<Array>,
}

/// Inputs of the whole step as one function.
pub struct StepInputs {
    /// Trainable parameters and their moments.
    pub states: Vec<ParameterState>,
    /// Frozen parameters.
    pub frozen: Vec<Array>,
    /// All rows of the micro-batch.
    pub batch: WorkerBatch,
    /// The inputs that differ from step to step.
    pub scalars: StepScalars,
}

/// Outputs of the whole step, or of the update.
pub struct StepOutputs {
    /// The step's metrics.
    pub metrics: StepMetrics,
    /// Parameters and moments after the step.
    pub states: Vec<ParameterState>,
}

/// Inputs of the forward and backward pass over some rows, whose outputs are [`Gradients`].
pub struct GradientInputs {
    /// The sum over the earlier micro-batches, to which these gradients are added.
    pub accumulated: Option<Gradients>,
    /// Trainable parameters.
    pub parameters: Vec<Array>,
    /// Frozen parameters.
    pub frozen: Vec<Array>,
    /// The worker's rows.
    pub batch: WorkerBatch,
}

/// What a rank adds to the sum over all ranks.
pub struct RankGradients {
    /// Of each of its workers.
    pub workers: Vec<Gradients>,
    /// Its vote to stop, `[1]`.
    pub votes: Array,
}

/// Inputs of the all-reduce of some parameters' gradients.
pub struct AllReduceInputs {
    /// By gradient worker, then by parameter.
    pub gradients: Vec<Vec<Array>>,
}

/// Outputs of the all-reduce.
pub struct AllReduceOutputs {
    /// Sums over the gradient workers.
    pub gradients: Vec<Array>,
    /// The squared norm of each of these, a scalar.
    pub squared_norms: Vec<Array>,
}

/// Inputs of the update of some parameters.
pub struct UpdateInputs {
    /// The loss of each gradient worker.
    pub losses: Vec<Array>,
    /// The terms of each gradient worker.
    pub terms: Vec<Vec<Array>>,
    /// The squared norms of the gradients of all parameters, those of other workers too. None where one function updates
    /// all parameters: it computes them.
    pub squared_norms: Option<Vec<Array>>,
    /// Of these parameters.
    pub gradients: Vec<Array>,
    /// These parameters and their moments before the step.
    pub states: Vec<ParameterState>,
    /// The inputs that differ from step to step.
    pub scalars: StepScalars,
}

array_tree! {
    ParameterState { parameter, m, v }
    WorkerBatch { inputs, targets, loss_mask, objective, ngram_rows, dropout_keys, loss_scale }
    LossMask { counted, inverse_count }
    Gradients { loss, terms, gradients }
    StepScalars { updates, lr, muon_lr, m_correction, v_correction }
    StepMetrics { loss, grad_norm, found_inf, terms }
    StepInputs { states, frozen, batch, scalars }
    StepOutputs { metrics, states }
    GradientInputs { accumulated, parameters, frozen, batch }
    RankGradients { workers, votes }
    AllReduceInputs { gradients }
    AllReduceOutputs { gradients, squared_norms }
    UpdateInputs { losses, terms, squared_norms, gradients, states, scalars }
}
