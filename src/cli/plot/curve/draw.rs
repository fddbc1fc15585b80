//! The picture: panels over one horizontal axis, a legend on top, as an SVG on white ground.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::cli::plot::curve::axis::{Axis, SharedAxis};
use crate::cli::plot::curve::{CurveError, Over, Point, RunCurve};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Width of the picture and height of a panel, in pixels.
const WIDTH: u32 = 960;
const PANEL: u32 = 240;
/// Room on the left for the numbers, above a panel for its name, below for the shared axis.
const LEFT: i32 = 72;
const ABOVE: i32 = 38;
const BELOW: i32 = 28;
const RIGHT: i32 = 24;
/// Points of a line beyond which it is thinned: no screen shows more.
const MAX_POINTS: usize = 1200;
/// Colors that color-blind readers can tell apart (Okabe & Ito), dark enough for thin lines.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
const INK: RGBColor = RGBColor(38, 38, 38);
const FAINT_INK: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(228, 228, 228);

/// One panel: what it shows and how.
struct Panel {
    name: &'static str,
    points: fn(&RunCurve) -> &[Point],
    /// Points with marks, or a faint line under its moving average.
    marked: bool,
    /// Bounds that the values cannot leave.
    bounds: [f64; 2],
    /// Whether the axis begins at the lower bound.
    from_bound: bool,
}

const PANELS: [Panel; 5] = [
    Panel {
        name: "Held-out accuracy (%)",
        points: |run| &run.accuracy,
        marked: true,
        bounds: [0.0, 100.0],
        from_bound: true,
    },
    Panel {
        name: "Held-out log p(answer) per token (nats)",
        points: |run| &run.log_p_answer,
        marked: true,
        bounds: [f64::NEG_INFINITY, f64::INFINITY],
        from_bound: false,
    },
    Panel {
        name: "Mean reward of a training step, with its moving average",
        points: |run| &run.reward,
        marked: false,
        bounds: [f64::NEG_INFINITY, f64::INFINITY],
        from_bound: false,
    },
    Panel {
        name: "Mean length of a rationale (tokens)",
        points: |run| &run.length,
        marked: false,
        bounds: [0.0, f64::INFINITY],
        from_bound: true,
    },
    Panel {
        name: "Guesses: rationales of fewer than 20 tokens (%)",
        points: |run| &run.guesses,
        marked: false,
        bounds: [0.0, 100.0],
        from_bound: true,
    },
];

/// Draws runs over each other: held-out accuracy, held-out log p(answer) per token, reward, length and
/// guesses, over what the runs were read with. A panel for which no run has numbers is left out. Returns
/// the SVG's text.
///
/// # Errors
/// If there is nothing to draw or the drawing fails.
pub fn draw(runs: &[RunCurve], over: Over, title: Option<&str>) -> Result<String, CurveError> {
    let shown = |panel: &&Panel| runs.iter().any(|run| !(panel.points)(run).is_empty());
    let panels: Vec<&Panel> = PANELS.iter().filter(shown).collect();
    if panels.is_empty() {
        return Err(CurveError::Empty("the input".into()));
    }
    let title_height = if title.is_some() { 46 } else { 12 };
    let rows = legend_rows(runs);
    let header = title_height + 24 * u32::try_from(rows.len()).unwrap_or(u32::MAX).min(100);
    let last_extra = 22; // the name of the shared axis
    let panel_count = u32::try_from(panels.len()).unwrap_or(1);
    let height = header + PANEL * panel_count + last_extra;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        if let Some(title) = title {
            root.draw_text(title, &text(24.0, INK).pos(CENTRED), ((WIDTH / 2).cast_signed(), 26))
                .map_err(failed)?;
        }
        draw_legend(&root, &rows, title_height.cast_signed())?;
        let shared = SharedAxis::of(runs, over);
        let (_, mut rest) = root.split_vertically(header);
        for (i, panel) in panels.iter().enumerate() {
            let last = i + 1 == panels.len();
            let (area, below) =
                rest.split_vertically(if last { PANEL + last_extra } else { PANEL });
            draw_panel(&area, panel, runs, &shared, last)?;
            rest = below;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn draw_panel(
    area: &Area,
    panel: &Panel,
    runs: &[RunCurve],
    shared: &SharedAxis,
    last: bool,
) -> Result<(), CurveError> {
    let lines: Vec<Vec<Point>> = runs
        .iter()
        .map(|run| (panel.points)(run).iter().map(|&(at, v)| (at / shared.unit, v)).collect())
        .collect();
    let [low, high] = value_range(panel, &lines);
    let name = text(18.0, INK).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw_text(panel.name, &name, (LEFT, ABOVE / 2 + 3)).map_err(failed)?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(ABOVE)
        .margin_right(RIGHT)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, if last { BELOW + 22 } else { BELOW })
        .build_cartesian_2d(Axis::new(0.0, shared.end, 11), Axis::new(low, high, 6))
        .map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FAINT_INK)
        .label_style(text(15.0, FAINT_INK))
        .axis_desc_style(text(17.0, INK));
    if last {
        mesh.x_desc(shared.name);
    }
    mesh.draw().map_err(failed)?;
    for (i, points) in lines.into_iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        // Outliers beyond the range are drawn on its edge, not outside the panel.
        let inside = |(t, v): Point| (t, v.clamp(low, high));
        if panel.marked {
            let line: Vec<Point> = thin(&points).into_iter().map(inside).collect();
            chart
                .draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(2)))
                .map_err(failed)?;
            let mark = |p: &Point| Circle::new(*p, 4, color.filled());
            chart.draw_series(line.iter().map(mark)).map_err(failed)?;
        } else {
            let smooth = thin(&moving_average(&points)).into_iter().map(inside);
            let raw = thin(&points).into_iter().map(inside);
            chart.draw_series(LineSeries::new(raw, color.mix(0.28))).map_err(failed)?;
            chart.draw_series(LineSeries::new(smooth, color.stroke_width(2))).map_err(failed)?;
        }
    }
    Ok(())
}

/// Ends of a panel's axis. A few extreme values don't squeeze the others: the outer 2 % of an
/// unmarked line are ignored.
fn value_range(panel: &Panel, lines: &[Vec<Point>]) -> [f64; 2] {
    let mut values: Vec<f64> = lines.iter().flatten().map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
    let ignored = if panel.marked { 0 } else { values.len() / 50 };
    let (mut low, mut high) = (values[ignored], values[values.len() - 1 - ignored]);
    if panel.from_bound {
        low = panel.bounds[0];
        high = high.max(low + 10.0);
    }
    let room = if high > low { 0.08 * (high - low) } else { 0.05 * high.abs().max(1.0) };
    if !panel.from_bound {
        low = (low - room).max(panel.bounds[0]);
    }
    high = (high + room).min(panel.bounds[1]);
    [low, high]
}

/// The mean over a centred window of a twentieth of the run, at least 5 points.
fn moving_average(points: &[Point]) -> Vec<Point> {
    let half = (points.len() / 40).max(2);
    let mut sums = vec![0.0];
    for (_, value) in points {
        sums.push(sums[sums.len() - 1] + value);
    }
    let mean = |(i, &(at, _)): (usize, &Point)| {
        let (from, to) = (i.saturating_sub(half), (i + half + 1).min(points.len()));
        #[expect(clippy::cast_precision_loss, reason = "a count of points")]
        let n = (to - from) as f64;
        (at, (sums[to] - sums[from]) / n)
    };
    points.iter().enumerate().map(mean).collect()
}

/// Every n-th point and the last, so that at most about [`MAX_POINTS`] remain.
fn thin(points: &[Point]) -> Vec<Point> {
    let stride = points.len().div_ceil(MAX_POINTS).max(1);
    let chosen = |i: &usize| i.is_multiple_of(stride) || i + 1 == points.len();
    (0..points.len()).filter(chosen).map(|i| points[i]).collect()
}

/// An entry of the legend: its place in the row, its color and its text.
type Entry<'a> = (i32, RGBColor, &'a str);

/// The legend's entries, in as many rows as they need.
fn legend_rows(runs: &[RunCurve]) -> Vec<Vec<Entry<'_>>> {
    let mut rows: Vec<Vec<Entry>> = Vec::new();
    let (mut at, end) = (i32::MAX, WIDTH.cast_signed() - RIGHT);
    for (i, run) in runs.iter().enumerate() {
        let letters = i32::try_from(run.label.chars().count()).unwrap_or(end).min(end);
        let width = 50 + 8 * letters; // the backend cannot measure text: wide letters are assumed
        if at > end - width {
            rows.push(Vec::new());
            at = LEFT;
        }
        if let Some(row) = rows.last_mut() {
            row.push((at, COLORS[i % COLORS.len()], &run.label));
        }
        at = at.saturating_add(width);
    }
    rows
}

fn draw_legend(root: &Area, rows: &[Vec<Entry>], top: i32) -> Result<(), CurveError> {
    let style = text(17.0, INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (row, y) in rows.iter().zip((top + 12..).step_by(24)) {
        for &(x, color, label) in row {
            let line = vec![(x, y), (x + 22, y)];
            root.draw(&PathElement::new(line, color.stroke_width(3))).map_err(failed)?;
            root.draw(&Circle::new((x + 11, y), 4, color.filled())).map_err(failed)?;
            root.draw_text(label, &style, (x + 30, y)).map_err(failed)?;
        }
    }
    Ok(())
}

const CENTRED: Pos = Pos { h_pos: HPos::Center, v_pos: VPos::Center };

fn text(size: f64, color: RGBColor) -> TextStyle<'static> {
    TextStyle { color: color.to_backend_color(), ..TextStyle::from(("sans-serif", size)) }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> CurveError {
    CurveError::Draw(error.to_string())
}
