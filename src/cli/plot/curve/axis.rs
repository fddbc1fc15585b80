//! The axes of a picture: their ends, their round numbers and how these are written.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::cli::plot::curve::RunCurve;
use crate::settings::choices;

choices! {
    /// What the curves of a picture run over.
    pub enum Over {
        /// Training time, without evaluations.
        Time = "time",
        /// Tokens sampled so far.
        Tokens = "tokens",
        /// Training steps.
        Steps = "steps",
    }
}

/// An even axis from `low` to `high` with round numbers of its own (plotters' default loses some at
/// the end of a range).
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    most: u32,
}

impl Axis {
    /// An axis from `low` to a larger `high` with about `most` numbers at most.
    pub(super) const fn new(low: f64, high: f64, most: u32) -> Self {
        Self { low, high, most }
    }

    /// Multiples of 1, 2 or 5 times a power of ten, both ends included if they are among them.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / f64::from(self.most);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (self.low / step).ceil();
        let tick = |i: u32| (first + f64::from(i)) * step;
        (0..=self.most).map(tick).take_while(|tick| *tick <= self.high).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        #[expect(clippy::cast_possible_truncation, reason = "a place in the picture, in pixels")]
        let pixels = (share * f64::from(limit.1 - limit.0)).round() as i32;
        limit.0 + pixels
    }

    fn key_points<H: KeyPointHint>(&self, _hint: H) -> Vec<f64> {
        self.ticks()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        short(*value)
    }

    fn format_ext(&self, value: &f64) -> String {
        short(*value)
    }
}

/// A number on an axis: as many decimals as it needs, at most four, and a real minus sign.
pub(super) fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.replace('-', "\u{2212}") }
}

/// The horizontal axis that all panels share.
#[derive(Debug)]
pub(super) struct SharedAxis {
    /// What one unit is, in seconds, tokens or steps.
    pub(super) unit: f64,
    /// What stands below it.
    pub(super) name: &'static str,
    /// End of the axis, in units; it begins at 0.
    pub(super) end: f64,
}

impl SharedAxis {
    /// The axis that holds all points, in the unit that suits their span.
    pub(super) fn of(runs: &[RunCurve], over: Over) -> Self {
        let all = runs.iter().flat_map(|r| [&r.accuracy, &r.log_p_answer, &r.reward]).flatten();
        let last = all.map(|p| p.0).fold(0.0, f64::max);
        let (unit, name) = match over {
            Over::Time if last <= 180.0 => (1.0, "training time (seconds)"),
            Over::Time if last <= 18_000.0 => (60.0, "training time (minutes)"),
            Over::Time => (3600.0, "training time (hours)"),
            Over::Tokens if last <= 20_000.0 => (1.0, "sampled tokens"),
            Over::Tokens if last <= 2e6 => (1e3, "sampled tokens (thousands)"),
            Over::Tokens => (1e6, "sampled tokens (millions)"),
            Over::Steps => (1.0, "training steps"),
        };
        let end = if last > 0.0 { 1.015 * last / unit } else { 1.0 };
        Self { unit, name, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_round_and_reach_the_ends() {
        let near = |low, high, wanted: &[f64]| {
            let ticks = Axis::new(low, high, 6).ticks();
            let equal = ticks.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(equal && ticks.len() == wanted.len(), "{ticks:?} {wanted:?}");
        };

        near(-2.95, -2.02, &[-2.8, -2.6, -2.4, -2.2]);
        near(0.0, 100.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        near(-1e-9, 3.05, &[0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn numbers_are_written_without_needless_digits() {
        assert_eq!(
            [0.0, -0.000_01, 2.50, -12.0, 0.125].map(short),
            ["0", "0", "2.5", "−12", "0.125"]
        );
    }
}
