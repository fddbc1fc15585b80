//! Cuts work into parts for the threads that compute: by size alone, never by timing.

mod pool;

use std::ops::Range;

use pool::with_current;
pub use pool::{Pool, start};

/// Below this many multiplications work is not worth a second thread.
const INLINE_MACS: usize = 100_000;
/// From this many multiplications on, work is cut finer than one part per thread, to balance load
/// between threads that are not equally fast or not always available.
const BALANCED_MACS: usize = 1_000_000;
/// Parts for each thread of such work.
const FINE: usize = 6;

/// Runs `f` on ranges that make up `0..units`, on all threads if `macs` multiplications are worth
/// it.
pub fn in_parts(units: usize, macs: usize, f: impl Fn(Range<usize>) + Sync) {
    with_current(|pool| {
        let parts = match pool.threads() {
            1 => 1,
            _ if macs < INLINE_MACS => 1,
            threads if macs < BALANCED_MACS => threads,
            threads => FINE * threads,
        };
        let parts = parts.min(units);
        if parts <= 1 {
            f(0..units);
        } else {
            let first = |part: usize| part * units / parts;
            pool.run(parts, &|part| f(first(part)..first(part + 1)));
        }
    });
}

/// A slice whose parts tasks write to in parallel.
pub(super) struct Shared<T>(*mut T);

// SAFETY: a plain address; `part` demands that no two tasks use the same items.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn of(items: &mut [T]) -> Self {
        Self(items.as_mut_ptr())
    }

    /// # Safety
    /// The items exist, and nothing else uses them meanwhile.
    #[expect(clippy::mut_from_ref, reason = "the caller promises exclusive access")]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}

/// Runs `f(first row, rows)` on parts that make up `data: [rows, width]`, on all threads if `macs`
/// multiplications are worth it.
///
/// # Panics
/// If `data` is not a whole number of rows.
pub fn in_rows(data: &mut [f32], width: usize, macs: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    in_rows_of([data], width, macs, |first, [data]| f(first, data));
}

/// As [`in_rows`] for several equally long slices.
///
/// # Panics
/// If the lengths differ or are not a whole number of rows.
pub fn in_rows_of<const N: usize>(
    data: [&mut [f32]; N],
    width: usize,
    macs: usize,
    f: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    let rows = data[0].len() / width;
    assert!(data.iter().all(|d| d.len() == rows * width), "not the same whole number of rows");
    let shared = data.map(Shared::of);
    in_parts(rows, macs, |range| {
        let values = range.start * width..range.end * width;
        // SAFETY: the slices have these values, and each row is in one range.
        f(range.start, std::array::from_fn(|i| unsafe { shared[i].part(values.clone()) }));
    });
}

/// Runs `f` on each of some items, on all threads if `macs` multiplications are worth it.
pub fn for_each<T: Send>(items: &mut [T], macs: usize, f: impl Fn(&mut T) + Sync) {
    let shared = &Shared::of(items);
    in_parts(items.len(), macs.max(items.len()), |range| {
        // SAFETY: the items exist, and each is in one range.
        unsafe { shared.part(range) }.iter_mut().for_each(&f);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once_on_any_number_of_threads() {
        for threads in 1..4 {
            let pool = Pool::new(threads);
            let seen = std::sync::Mutex::new(Vec::new());
            pool.install(|| {
                in_parts(7, usize::MAX, |range| seen.lock().unwrap().extend(range));
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);

            let mut data = [0.0; 14];
            let mut items = [1; 9];
            pool.install(|| {
                in_rows(&mut data, 2, usize::MAX, |first, rows| {
                    for (i, row) in rows.chunks_exact_mut(2).enumerate() {
                        row.fill((first + i) as f32);
                    }
                });
                for_each(&mut items, usize::MAX, |item| *item += 1);
            });
            assert_eq!(data, std::array::from_fn(|i| (i / 2) as f32));
            assert_eq!(items, [2; 9]);
        }
    }
}
