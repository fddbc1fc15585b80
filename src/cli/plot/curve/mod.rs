//! Learning curves: from the JSON lines of training runs to one picture.
//!
//! Here the lines are read; `draw` makes an SVG of them. Knows the lines' format
//! ([`MetricLine`]) and nothing of how they come about.

use std::io::{BufRead, Read};

use crate::latro::metrics::MetricLine;

mod axis;
mod draw;

pub use axis::Over;
pub use draw::draw;

/// A place in a run and a value there: seconds of training, sampled tokens or steps, and the number.
pub type Point = (f64, f64);

/// What a picture shows of one run. Numbers that are not finite are left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunCurve {
    /// The run's name in the legend.
    pub label: String,
    /// Held-out accuracy, in percent.
    pub accuracy: Vec<Point>,
    /// Held-out log p(answer) per token, in nats.
    pub log_p_answer: Vec<Point>,
    /// Mean reward of each step.
    pub reward: Vec<Point>,
    /// Mean length of the rationales of each step, in tokens.
    pub length: Vec<Point>,
    /// Share of guesses among the rationales of each step, in percent.
    pub guesses: Vec<Point>,
}

/// Lines that no picture can be made of.
#[derive(Debug, thiserror::Error)]
pub enum CurveError {
    /// A line is not one that `train` writes.
    #[error("line {line} of {label} is not a metrics line of train ({reason}): mend or remove it")]
    Line {
        /// The run's name.
        label: String,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to draw.
    #[error("{0} holds no step and no evaluation: give the metrics file of a run that has begun")]
    Empty(String),
    /// The file is larger than any run makes it.
    #[error("{label} is larger than {} MiB: give the metrics file of a run", MAX_BYTES >> 20)]
    TooLarge {
        /// The run's name.
        label: String,
    },
    /// The picture could not be drawn.
    #[error("the picture could not be drawn: {0}")]
    Draw(String),
}

/// Longest line that is read, in bytes; `train` writes about 1000.
const MAX_LINE: u64 = 1 << 16;
/// Largest file that is read, in bytes: some 300 000 steps.
const MAX_BYTES: u64 = 1 << 28;

impl RunCurve {
    /// Reads a run from its lines. Blank lines are skipped.
    ///
    /// # Errors
    /// If a line cannot be read or parsed, if there is nothing in them to draw, or if there are too
    /// many.
    pub fn read(label: &str, over: Over, mut lines: impl BufRead) -> Result<Self, CurveError> {
        let mut tokens = 0;
        let mut curve = Self { label: label.into(), ..Self::default() };
        let (mut text, mut line, mut bytes) = (Vec::new(), 0, 0);
        loop {
            line += 1;
            let wrong = |reason: String| CurveError::Line { label: label.into(), line, reason };
            text.clear();
            let read = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut text);
            let length = read.map_err(|e| wrong(e.to_string()))? as u64;
            bytes += length;
            if bytes > MAX_BYTES {
                return Err(CurveError::TooLarge { label: label.into() });
            }
            if length == MAX_LINE {
                return Err(wrong(format!("longer than {MAX_LINE} bytes")));
            }
            if length == 0 {
                break;
            }
            if !text.trim_ascii().is_empty() {
                let line = serde_json::from_slice(&text).map_err(|e| wrong(without_place(&e)))?;
                curve.add(line, over, &mut tokens);
            }
        }
        let empty = [&curve.accuracy, &curve.log_p_answer, &curve.reward]
            .iter()
            .all(|points| points.is_empty());
        if empty { Err(CurveError::Empty(label.into())) } else { Ok(curve) }
    }

    /// Adds a line's numbers. `tokens` were sampled before it; those of the line are added.
    fn add(&mut self, line: MetricLine, over: Over, tokens: &mut u64) {
        if let MetricLine::Step(step) = &line {
            *tokens = tokens.saturating_add(step.rollout_tokens);
        }
        let place = |elapsed_s: f64, step: u64| match over {
            Over::Time => elapsed_s,
            Over::Tokens => *tokens as f64,
            Over::Steps => step as f64,
        };
        let add = |to: &mut Vec<Point>, at: f64, value: f64| {
            if at.is_finite() && value.is_finite() {
                to.push((at.max(0.0), value));
            }
        };
        match line {
            MetricLine::Step(step) => {
                let at = place(step.elapsed_s, step.step);
                add(&mut self.reward, at, step.reward);
                if step.method.samples() {
                    add(&mut self.length, at, step.rationale_tokens);
                    add(&mut self.guesses, at, 100.0 * step.short_share);
                }
            }
            MetricLine::Eval(eval) => {
                let at = place(eval.elapsed_s, eval.step);
                add(&mut self.accuracy, at, 100.0 * eval.accuracy);
                add(&mut self.log_p_answer, at, eval.log_p_answer_per_token);
            }
            MetricLine::Sentinel(_) => {}
        }
    }
}

/// An error's message without "at line 1 column 2", which counts within one line of the file.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.into())
}

#[cfg(test)]
mod tests;
