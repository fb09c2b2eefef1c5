//! Day 9, probabilities of tokens after temperature, filters and penalties.

use std::fmt::Write;

use anyhow::{Context, Result};
use mlx_rs::{Array, ops};

use super::day09_generation::Day8Model;
use crate::generate::sampler::Sampling;
use crate::lessons::arrays::largest_difference;
use crate::lessons::claims::CheckResult;
use crate::lessons::pictures;
use crate::lessons::workspace::Workspace;

pub(super) fn bar(probability: f64, width: usize) -> String {
    "█".repeat((probability * width as f64).round() as usize)
}

type Named = (&'static str, Sampling);

fn every_temperature() -> [Named; 3] {
    [("0.5", 0.5), ("1", 1.0), ("2", 2.0)].map(|(name, temperature)| {
        (
            name,
            Sampling {
                temperature,
                ..Sampling::PLAIN
            },
        )
    })
}

fn every_filter() -> [Named; 4] {
    let plain = Sampling::PLAIN;
    [
        ("all", plain),
        ("top-k 3", Sampling { top_k: 3, ..plain }),
        ("top-p 0.8", Sampling { top_p: 0.8, ..plain }),
        ("min-p 0.1", Sampling { min_p: 0.1, ..plain }),
    ]
}

fn both_penalties() -> [Named; 2] {
    let penalized = Sampling {
        repetition_penalty: 1.5,
        ..Sampling::PLAIN
    };
    [("none", Sampling::PLAIN), ("penalty 1.5", penalized)]
}

/// Figure: probabilities at several temperatures.
pub fn temperature(workspace: &Workspace) -> Result<String> {
    text_bars(workspace, &every_temperature())
}

/// The same as a picture.
pub fn temperature_picture(workspace: &Workspace) -> Result<String> {
    picture_bars(workspace, "Temperature", &every_temperature())
}

/// Figure: probabilities after each filter.
pub fn filters(workspace: &Workspace) -> Result<String> {
    text_bars(workspace, &every_filter())
}

/// The same as a picture.
pub fn filters_picture(workspace: &Workspace) -> Result<String> {
    picture_bars(workspace, "What filters leave", &every_filter())
}

/// Figure: probabilities with a repetition penalty.
pub fn penalty(workspace: &Workspace) -> Result<String> {
    text_bars(workspace, &both_penalties())
}

/// Probabilities of the most likely tokens with several sampling options, side by side.
fn text_bars(workspace: &Workspace, samplings: &[Named]) -> Result<String> {
    let day8 = Day8Model::new(workspace)?;
    let columns = samplings.iter().map(|(_, sampling)| day8.probabilities(sampling));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let mut text = String::from("token");
    for (name, _) in samplings {
        write!(text, "  {name:<22}")?;
    }
    text.push('\n');
    for id in day8.most_likely(10)? {
        let seen = if day8.prompt.contains(&id) { '*' } else { ' ' };
        let mut line = format!("{:<3}{seen} ", day8.label(id)?);
        for column in &columns {
            let probability = column[id as usize];
            let percent = if probability > 0.0 {
                format!("{:>5.1} %", 100.0 * probability)
            } else {
                "     –".into()
            };
            write!(line, "  {percent:<8} {:<13}", bar(probability, 13))?;
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    text += "\n* is in the prompt\n";
    Ok(text)
}

fn picture_bars(workspace: &Workspace, title: &str, samplings: &[Named]) -> Result<String> {
    let day8 = Day8Model::new(workspace)?;
    let ids = day8.most_likely(14)?;
    let names = ids.iter().map(|&id| day8.label(id)).collect::<Result<Vec<_>>>()?;
    let mut groups = Vec::new();
    for (name, sampling) in samplings {
        let probabilities = day8.probabilities(sampling)?;
        groups.push((
            (*name).to_owned(),
            ids.iter().map(|&id| probabilities[id as usize]).collect(),
        ));
    }
    pictures::bars(title, &names, &groups)
}

/// Claim: each filter keeps the tokens that it should.
pub fn filters_leave_what_they_say(workspace: &Workspace) -> Result<CheckResult> {
    let day8 = Day8Model::new(workspace)?;
    let mut sorted = day8.probabilities(&Sampling::PLAIN)?;
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut reached = 0.0;
    let enough = sorted.iter().position(|probability| {
        reached += probability;
        reached >= 0.8
    });
    let expected = [
        sorted.iter().filter(|&&probability| probability > 0.0).count(),
        3,
        enough.context("the chances do not add up to one")? + 1,
        sorted
            .iter()
            .filter(|&&probability| probability >= 0.1 * sorted[0])
            .count(),
    ];
    let mut left = Vec::new();
    for (_, sampling) in every_filter() {
        left.push(
            day8.probabilities(&sampling)?
                .iter()
                .filter(|&&probability| probability > 0.0)
                .count(),
        );
    }
    Ok(CheckResult::passes_if(
        left == expected,
        format!("{left:?} tokens are left, {expected:?} by hand"),
    ))
}

/// Claim: without options, probabilities are the softmax of the logits.
pub fn plain_is_softmax(workspace: &Workspace) -> Result<CheckResult> {
    let day8 = Day8Model::new(workspace)?;
    let logits = day8.logits()?;
    let probabilities: Vec<f32> = day8
        .probabilities(&Sampling::PLAIN)?
        .iter()
        .map(|&p| p as f32)
        .collect();
    let softmax = ops::softmax_axis(Array::from_slice(&logits, &[logits.len() as i32]), -1, true)?;
    let probabilities = Array::from_slice(&probabilities, softmax.shape());
    // Fractions of 1 in float32.
    Ok(CheckResult::within_tolerance(
        largest_difference(&probabilities, &softmax)?,
        1e-6,
    ))
}
