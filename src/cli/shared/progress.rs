//! Progress of long work on standard error: a bar on a terminal, plain lines elsewhere.
//!
//! Knows nothing of what is counted. Standard output stays free for results.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Seconds between two plain lines: enough to see in a log that work goes on, and no flood.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Counts units of work towards a total.
#[derive(Debug)]
pub struct Progress {
    label: String,
    unit: &'static str,
    total: u64,
    done: u64,
    start: Instant,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// Work of `total` units, of which some were `done` in an earlier run. The label says what is
    /// worked on; `unit` is a plural, for example `steps`.
    #[must_use]
    pub fn new(label: &str, done: u64, total: u64, unit: &'static str) -> Self {
        let start = Instant::now();
        let display = if std::io::stderr().is_terminal() {
            Display::Bar(bar(label, done, total, unit))
        } else {
            Display::Lines { last: start }
        };
        Self { label: label.into(), unit, total, done, start, display }
    }

    /// Takes note of `units` more. On a terminal the bar moves; elsewhere a line is written if the
    /// last one is some time ago.
    pub fn advance(&mut self, units: u64) {
        self.done += units;
        let elapsed = self.start.elapsed();
        match &mut self.display {
            Display::Bar(bar) => bar.inc(units),
            Display::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                eprintln!("{}", line(&self.label, self.done, self.total, self.unit, elapsed));
            }
            Display::Lines { .. } => {}
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn bar(label: &str, done: u64, total: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(4));
    let template = format!(
        "{{prefix}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit}, {{elapsed}}, {{eta}} left"
    );
    // The template is a constant but for the unit; should it not parse, the default bar is as good.
    bar.set_style(
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(label.to_owned());
    bar.set_position(done);
    bar.reset_eta();
    bar
}

/// A line for a log.
fn line(label: &str, done: u64, total: u64, unit: &str, elapsed: Duration) -> String {
    format!("{label}: {done} of {total} {unit} after {}", HumanDuration(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_how_far() {
        let text = line("training", 12, 200, "steps", Duration::from_secs(75));
        assert_eq!(text, "training: 12 of 200 steps after 75 seconds");
    }

    #[test]
    fn a_bar_counts_from_where_an_earlier_run_stopped() {
        let bar = bar("training", 3, 9, "steps");
        bar.set_draw_target(ProgressDrawTarget::hidden());
        bar.inc(2);
        assert_eq!((bar.position(), bar.length()), (5, Some(9)));
    }
}
