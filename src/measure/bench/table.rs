//! Measurements as Markdown tables.

use std::fmt::Write;

use indicatif::HumanBytes;

use super::BenchReport;
use crate::terminal::table::markdown;

/// The machine, and a table of each section.
pub fn report(report: &BenchReport) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{}, {} cores, {}; MLX {} on the {}, {} thread(s)\n",
        machine.processor,
        machine.cores,
        HumanBytes(machine.memory),
        machine.mlx,
        machine.device,
        machine.threads
    );
    if let (Some(kernels), Some(blas)) = (&machine.kernels, &machine.blas) {
        let _ = writeln!(
            text,
            "on a CPU: this program's kernels {kernels} (MLX_GPT_KERNELS), {blas}"
        );
    }
    if let Some(peaks) = &report.peaks {
        let _ = writeln!(
            text,
            "at most {:.0} GFLOP/s in products of large float32 matrices, {:.1} GB/s read from memory",
            peaks.sgemm / 1e9,
            peaks.bandwidth / 1e9
        );
    }
    let training = report
        .sizes
        .iter()
        .filter_map(|size| Some((size, size.training.as_ref()?)));
    let rows = training.map(|(size, training)| {
        let phases = &training.milliseconds;
        let accumulated = match training.grad_accum {
            1 => String::new(),
            several => format!(" × {several}"),
        };
        vec![
            size.preset.clone(),
            format!("{:.1} M", size.parameters as f64 / 1e6),
            format!("{} × {}{accumulated}", training.batch_size, training.context),
            format!("{:.0}", training.tokens_per_second),
            format!("{:.2}", phases.data),
            format!("{:.1}", phases.step),
            format!("{:.2}", phases.evaluation),
            format!("{:.2}", phases.logging),
            format!("{:.0} MB", training.peak_memory as f64 / 1e6),
            format!("{:.1}", training.flops_per_token as f64 / 1e6),
            percent(training.share_of_sgemm),
        ]
    });
    text += &below(markdown(
        &[
            "training",
            "parameters",
            "rows × tokens",
            "tokens/s",
            "data ms",
            "step ms",
            "evaluation ms",
            "logging ms",
            "memory",
            "MFLOP/token",
            "of sgemm",
        ],
        rows,
    ));
    let generation = report
        .sizes
        .iter()
        .filter_map(|size| Some((size, size.generation.as_ref()?)));
    let rows = generation.map(|(size, generation)| {
        vec![
            size.preset.clone(),
            format!("{:.1} M", size.parameters as f64 / 1e6),
            format!("{:.1}", generation.first_token_milliseconds),
            format!("{:.1}", generation.tokens_per_second),
            format!("{:.1}", generation.bytes_per_token as f64 / 1e6),
            percent(generation.share_of_bandwidth),
        ]
    });
    text += &below(markdown(
        &[
            "generation",
            "parameters",
            "first token ms",
            "tokens/s",
            "MB/token",
            "of memory's rate",
        ],
        rows,
    ));
    text
}

/// After an empty line, if there is something.
fn below(table: String) -> String {
    if table.is_empty() { table } else { format!("\n{table}") }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.0} %", 100.0 * share))
}
