//! How work is spread over threads: one rayon pool for everything that computes.
//!
//! Its threads sleep when there is nothing to do. Work is cut by size alone, never by timing.

use std::ops::Range;

/// Below this many multiplications work is not worth a second thread.
const INLINE_MACS: usize = 200_000;
/// From this many multiplications on, work is cut finer than one part per thread, to balance load.
const BALANCED_MACS: usize = 2_000_000;

/// Threads that the kernels use: those of the current rayon pool.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `f` on a thread of the pool. Parts of `f` that run in parallel are then handed from one
/// pool thread to another; from a thread outside, each of them would cost two wake-ups.
pub fn on_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}

/// Runs `f` on ranges that make up `0..units`, on all threads if `macs` multiplications are worth
/// it.
pub(crate) fn in_parts(units: usize, macs: usize, f: impl Fn(Range<usize>) + Sync) {
    let parts = parts(macs).min(units);
    if parts <= 1 {
        f(0..units);
    } else {
        halve(&f, units, 0..parts, parts);
    }
}

/// Into how many parts work of `macs` multiplications is cut.
fn parts(macs: usize) -> usize {
    match threads() {
        1 => 1,
        _ if macs < INLINE_MACS => 1,
        threads if macs < BALANCED_MACS => threads,
        threads => 4 * threads,
    }
}

/// Runs parts `parts` of `count`, in parallel.
fn halve(f: &(impl Fn(Range<usize>) + Sync), units: usize, parts: Range<usize>, count: usize) {
    if parts.len() == 1 {
        f(parts.start * units / count..parts.end * units / count);
    } else {
        let middle = parts.start + parts.len() / 2;
        rayon::join(
            || halve(f, units, parts.start..middle, count),
            || halve(f, units, middle..parts.end, count),
        );
    }
}

/// Runs `f(first row, rows)` on parts that make up `data: [rows, width]`, on all threads if `macs`
/// multiplications are worth it.
///
/// # Panics
/// If `data` is not a whole number of rows.
pub(crate) fn in_rows(
    data: &mut [f32],
    width: usize,
    macs: usize,
    f: impl Fn(usize, &mut [f32]) + Sync,
) {
    assert!(data.len().is_multiple_of(width), "not a whole number of rows");
    let rows = data.len() / width;
    let parts = parts(macs).min(rows);
    if parts <= 1 {
        f(0, data);
    } else {
        halve_rows(&f, (data, width, rows), 0..parts, parts);
    }
}

fn halve_rows(
    f: &(impl Fn(usize, &mut [f32]) + Sync),
    (data, width, rows): (&mut [f32], usize, usize),
    parts: Range<usize>,
    count: usize,
) {
    let first = |part: usize| part * rows / count;
    if parts.len() == 1 {
        f(first(parts.start), data);
        return;
    }
    let middle = parts.start + parts.len() / 2;
    let (left, right) = data.split_at_mut((first(middle) - first(parts.start)) * width);
    rayon::join(
        || halve_rows(f, (left, width, rows), parts.start..middle, count),
        || halve_rows(f, (right, width, rows), middle..parts.end, count),
    );
}

/// As [`in_rows`] for three equally long slices, without the row's number.
///
/// # Panics
/// If the lengths differ or are no whole number of rows.
pub(crate) fn in_rows_of_three(
    data: [&mut [f32]; 3],
    width: usize,
    macs: usize,
    f: impl Fn([&mut [f32]; 3]) + Sync,
) {
    let rows = data[0].len() / width;
    assert!(data.iter().all(|d| d.len() == rows * width), "not the same whole number of rows");
    let parts = parts(macs).min(rows);
    halve_three(&f, data, width, rows, parts);
}

fn halve_three(
    f: &(impl Fn([&mut [f32]; 3]) + Sync),
    data: [&mut [f32]; 3],
    width: usize,
    rows: usize,
    parts: usize,
) {
    if parts <= 1 {
        f(data);
        return;
    }
    let middle = rows * (parts / 2) / parts;
    let [a, b, c] = data.map(|d| d.split_at_mut(middle * width));
    rayon::join(
        || halve_three(f, [a.0, b.0, c.0], width, middle, parts / 2),
        || halve_three(f, [a.1, b.1, c.1], width, rows - middle, parts - parts / 2),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once_on_any_number_of_threads() {
        for threads in 1..4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let seen = std::sync::Mutex::new(Vec::new());
            pool.install(|| {
                in_parts(7, usize::MAX, |range| seen.lock().unwrap().extend(range));
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);

            let mut data = [0.0; 14];
            pool.install(|| {
                in_rows(&mut data, 2, usize::MAX, |first, rows| {
                    for (i, row) in rows.chunks_exact_mut(2).enumerate() {
                        row.fill((first + i) as f32);
                    }
                });
            });
            assert_eq!(data, std::array::from_fn(|i| (i / 2) as f32));
        }
    }
}
