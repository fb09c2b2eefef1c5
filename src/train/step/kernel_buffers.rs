//! The fused kernels of a step have no more arguments than Metal's can have.
//!
//! MLX fuses operations without regard to a device. A kernel of Metal has 31 buffers, and MLX raises an error while it
//! computes where a fused one needs more (`build_kernel` in its mlx/backend/metal/compiled.cpp); a CPU's has any number.

use std::sync::Arc;

use anyhow::{Context, Result};
use mlx_rs::Array;
use mlx_rs::transforms::eval;

use super::arrays::{ParameterState, StepInputs, StepScalars};
use super::functions::fused;
use super::gradients::{LossAndGradFn, MicroBatch, StepBatch};
use super::update::UpdateFn;
use crate::compute::compiled::compiled;
use crate::compute::raw_graph;
use crate::config::{Architecture, Device, Objective, Optimizer, Precision, Preset, TrainConfig};
use crate::data::batches::Batch;
use crate::model::dropout::Dropout;
use crate::model::init;
use crate::model::parameters::{Names, Parameters};
use crate::train::optimizers::uses_adamw;

/// Buffers of a kernel.
const METAL_BUFFERS: usize = 31;

/// Beside its inputs and outputs: strides, shape, the number of dimensions.
const OTHERS: usize = 3;

/// Inputs and outputs of each fused kernel of a step.
fn kernels(config: &TrainConfig) -> Result<Vec<[usize; 2]>> {
    let model = config.model_config(65);
    let parameters = init::initialize(&model, 1)?;
    eval(parameters.arrays())?;
    let gradients = LossAndGradFn {
        model: model.clone(),
        trainable_names: Arc::clone(parameters.names()),
        frozen_names: Names::default(),
        precision: config.dtype,
        recompute: config.recompute,
        batch_rows: config.batch_size,
        mean_rows: config.batch_size,
        micro_batches: 1,
        row_tokens: config.context,
        objective: Objective::NextToken,
    };
    let update = UpdateFn::new(config, &model, &parameters);
    let micro_batch = MicroBatch {
        batch: Batch {
            inputs: vec![1; config.batch_size * config.context],
            targets: vec![2; config.batch_size * config.context],
            rows: config.batch_size,
        },
        dropout_keys: vec![3; 2 * Dropout::sites(model.layers)],
        ngram_rows: Vec::new(),
        objective: None,
    };
    let batch = StepBatch::new(vec![micro_batch])?;
    let mut step = compiled(move |inputs| fused(&gradients, &update, inputs));
    let scalar = || Array::from_f32(1.0);
    let outputs = step(StepInputs {
        states: states(config.optimizer, &parameters),
        frozen: Vec::new(),
        batch: batch.worker_batch(&batch.micro_batches()[0], [0, config.batch_size], 1.0),
        scalars: StepScalars {
            updates: Array::from_bool(true),
            lr: scalar(),
            muon_lr: scalar(),
            m_correction: scalar(),
            v_correction: scalar(),
        },
    })?;
    let metrics = outputs.metrics;
    let mut results = vec![metrics.loss, metrics.grad_norm, metrics.found_inf];
    for state in outputs.states {
        results.extend([state.parameter, state.m].into_iter().chain(state.v));
    }
    let graph = raw_graph(&results);
    let compiled = graph.lines().filter(|line| line.starts_with("Compiled"));
    let arguments = |list: &str| list.matches("], ").count() + 1;
    compiled
        .map(|line| {
            let (inputs, outputs) = line.split_once(" -> ").context("MLX writes graphs in another way")?;
            Ok([arguments(inputs), arguments(outputs)])
        })
        .collect()
}

fn states(optimizer: Optimizer, parameters: &Parameters) -> Vec<ParameterState> {
    let state = |(name, array): (&str, &Array)| ParameterState {
        parameter: array.clone(),
        m: array.clone(),
        v: uses_adamw(optimizer, name, array.shape()).then(|| array.clone()),
    };
    parameters.iter().map(state).collect()
}

#[test]
fn no_fused_kernel_of_a_step_has_more_buffers_than_metal() -> Result<()> {
    Device::Cpu.select()?;
    let baby = TrainConfig {
        embd: 48,
        context: 16,
        batch_size: 2,
        ..Preset::Baby.train_config(Device::Gpu)
    };
    let deep = TrainConfig {
        layers: 24,
        ..baby.clone()
    };
    for (what, config) in [
        ("baby", baby.clone()),
        ("24 layers", deep.clone()),
        ("Muon", deep.clone().with_optimizer(Optimizer::Muon)),
        (
            "float16",
            TrainConfig {
                dtype: Precision::Float16,
                ..deep.clone()
            },
        ),
        (
            "bfloat16",
            TrainConfig {
                dtype: Precision::Bfloat16,
                ..deep.clone()
            },
        ),
        (
            "recomputed",
            TrainConfig {
                recompute: true,
                ..deep.clone()
            },
        ),
        ("newer components", deep.with_architecture(Architecture::Modern)),
    ] {
        let kernels = kernels(&config)?;
        assert!(kernels.len() > 10, "{what}: {} fused kernels", kernels.len());
        let most = kernels.iter().map(|[inputs, outputs]| inputs + outputs + OTHERS).max();
        println!("{what}: {} fused kernels, {most:?} buffers at most", kernels.len());
        assert!(most <= Some(METAL_BUFFERS), "{what}: {kernels:?}");
    }
    Ok(())
}
