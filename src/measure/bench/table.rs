//! Measurements as Markdown tables, for terminals and for a README.

use std::fmt::Write;

use indicatif::HumanBytes;

use super::Report;

/// The machine, and a table each of what was measured.
pub fn report(report: &Report) -> String {
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
        [
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
    text += &markdown(
        [
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
    );
    let generation = report
        .sizes
        .iter()
        .filter_map(|size| Some((size, size.generation.as_ref()?)));
    let rows = generation.map(|(size, generation)| {
        [
            size.preset.clone(),
            format!("{:.1} M", size.parameters as f64 / 1e6),
            format!("{:.1}", generation.first_token_milliseconds),
            format!("{:.1}", generation.tokens_per_second),
            format!("{:.1}", generation.bytes_per_token as f64 / 1e6),
            percent(generation.share_of_bandwidth),
        ]
    });
    text += &markdown(
        [
            "writing",
            "parameters",
            "first token ms",
            "tokens/s",
            "MB/token",
            "of memory's rate",
        ],
        rows,
    );
    text
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.0} %", 100.0 * share))
}

/// An empty line and a table, unless it has no rows. Numbers, which is all but the first column, stand at the right.
pub fn markdown<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let mut line = String::from("|");
        for (column, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
            let _ = match column {
                0 => write!(line, " {cell:<width$} |"),
                _ => write!(line, " {cell:>width$} |"),
            };
        }
        line + "\n"
    };
    let rules: [String; N] = std::array::from_fn(|column| match column {
        0 => "-".repeat(widths[0]),
        _ => "-".repeat(widths[column].saturating_sub(1)) + ":",
    });
    let mut text = String::from("\n") + &line(head) + &line(rules.each_ref().map(String::as_str));
    for row in &rows {
        text += &line(row.each_ref().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1.5"], ["longer", "10"]].map(|row| row.map(String::from));
        assert_eq!(
            markdown(["x", "n"], rows.into_iter()),
            "\n| x      |   n |\n| ------ | --: |\n| a      | 1.5 |\n| longer |  10 |\n"
        );
        assert_eq!(markdown(["x"], std::iter::empty()), "");
    }
}
