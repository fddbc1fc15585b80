//! The curves of one device or several, as JSON for the browser to draw.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;

use super::pages::View;
use super::{Failure, Shared};
use crate::dashboard::curves::{CURVES, CurveKind};
use crate::dashboard::fleet::DeviceId;
use crate::dashboard::history::{EventQuery, Reader};
use crate::dashboard::hub::now_ms;

/// Points of a curve, at most: about as many as a screen has columns.
const MAX_POINTS: usize = 1000;
/// Marks on the curves, at most.
const MAX_MARKS: usize = 200;
/// What is shown if nothing else is asked for, in milliseconds.
const RANGE_MS: i64 = 86_400_000;

#[derive(Serialize)]
pub struct Answer {
    from: i64,
    to: i64,
    now: i64,
    curves: Vec<Curve>,
    marks: Vec<Mark>,
}

/// Time in milliseconds, mean, minimum, maximum.
type Point = (i64, f64, f64, f64);

#[derive(Serialize)]
struct Curve {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    drawn: Drawn,
}

/// What is drawn in one picture.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Drawn {
    /// One device.
    Points(Vec<Point>),
    /// Several devices.
    Series(Vec<Series>),
}

#[derive(Serialize)]
struct Series {
    label: String,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Mark {
    at: i64,
    kind: String,
    text: String,
}

/// A range of time that was asked for.
struct Range {
    from: i64,
    to: i64,
    now: i64,
}

impl Range {
    /// Reads `from=…&to=…`, both in milliseconds since 1970.
    fn parse(query: &str) -> Self {
        let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
        let time = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == wanted)?.1.parse::<i64>().ok()
        };
        let to = time("to").unwrap_or(now);
        let from = time("from").unwrap_or_else(|| to.saturating_sub(RANGE_MS)).min(to);
        Self { from, to, now }
    }
}

/// Answers for one device.
pub async fn show(
    State(hub): Shared,
    Path((fleet, device)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<Answer>, Failure> {
    let device = DeviceId { fleet, device }.to_string();
    let range = Range::parse(&query.unwrap_or_default());
    let reader = hub.reader();
    let mut points = points(&reader, &device, &range)?;
    let drawn = points.drain(..).map(|(kind, points)| (kind, Drawn::Points(points)));
    Ok(Json(answer(&range, drawn, marks(&reader, &device, range.from, range.to)?)))
}

/// Answers for the devices that are named.
pub async fn compare(
    State(hub): Shared,
    RawQuery(query): RawQuery,
) -> Result<Json<Answer>, Failure> {
    let query = query.unwrap_or_default();
    let Some(View::Compare(devices)) = View::parse("/compare", &query) else {
        return Err(Failure::NotFound("comparison"));
    };
    let range = Range::parse(&query);
    let mut all: Vec<Vec<Series>> = CURVES.iter().map(|_| Vec::new()).collect();
    for device in devices {
        let label = device.to_string();
        for (kind, points) in points(&hub.reader(), &label, &range)? {
            if let Some(at) = CURVES.iter().position(|curve| curve.name == kind.name) {
                all[at].push(Series { label: label.clone(), points });
            }
        }
    }
    let drawn = CURVES.into_iter().zip(all).filter(|(_, series)| !series.is_empty());
    let drawn = drawn.map(|(kind, series)| (kind, Drawn::Series(series)));
    Ok(Json(answer(&range, drawn, Vec::new())))
}

fn answer(
    range: &Range,
    drawn: impl Iterator<Item = (CurveKind, Drawn)>,
    marks: Vec<Mark>,
) -> Answer {
    let curve = |(kind, drawn): (CurveKind, Drawn)| Curve {
        name: kind.name,
        title: kind.title,
        unit: kind.unit,
        drawn,
    };
    let &Range { from, to, now } = range;
    Answer { from, to, now, curves: drawn.map(curve).collect(), marks }
}

/// The curves that a device has in a range of time; empty frames would bury them.
fn points(
    reader: &Reader,
    device: &str,
    range: &Range,
) -> Result<Vec<(CurveKind, Vec<Point>)>, Failure> {
    let names = CURVES.map(|curve| curve.name);
    let mut found = reader.curves(device, range.from, range.to, &names, MAX_POINTS)?;
    let mut curves = Vec::new();
    for kind in CURVES {
        let Some(at) = found.iter().position(|curve| curve.name == kind.name) else { continue };
        let points: Vec<Point> =
            found.swap_remove(at).points.iter().map(|p| (p.at_ms, p.mean, p.min, p.max)).collect();
        if !points.is_empty() {
            curves.push((kind, points));
        }
    }
    Ok(curves)
}

/// What happened to adapters in that time.
fn marks(reader: &Reader, device: &str, from: i64, to: i64) -> Result<Vec<Mark>, Failure> {
    let kinds = ["promoted", "rejected", "rolled_back", "switched"].map(str::to_owned).to_vec();
    let device = Some(device.to_owned());
    let query = EventQuery { device, kinds, from_ms: from, to_ms: to, limit: MAX_MARKS };
    let events = reader.events(&query)?;
    let mark = |event: crate::dashboard::history::Happening| Mark {
        at: event.at_ms,
        kind: event.event,
        text: event.sentence,
    };
    Ok(events.into_iter().map(mark).collect())
}
