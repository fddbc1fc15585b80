//! How fast memory and the last-level cache are read.
//!
//! The loop is plain Rust, from which a compiler makes vector loads; on x86-64 it is translated for
//! AVX2 as well, because narrow loads are so many that the processor sees less of the way ahead.

use std::fs;
use std::hint::black_box;

use super::{Rate, ReadPeak, best_rate, seconds};

/// The buffer that stands for main memory.
const MAIN: usize = 1 << 30;
/// The most of a buffer in the cache that one thread reads; with more, a large cache that other
/// tenants use too would be measured by what they leave.
const CACHE_PER_THREAD: usize = 48 << 20;
/// Assumed for the last-level cache where the system does not report its size.
const UNKNOWN_CACHE: usize = 8 << 20;
/// Values in a cache line.
const LINE: usize = 8;

/// Bytes of the last-level cache, or [`UNKNOWN_CACHE`].
pub(super) fn cache_size() -> usize {
    last_level_cache().unwrap_or(UNKNOWN_CACHE)
}

/// Bytes of the buffer in the cache, and of the buffer in main memory, of which `free` bytes can be
/// had, if that is known.
pub(super) fn buffer_sizes(threads: usize, free: Option<u64>) -> (usize, usize) {
    let cache = cache_size() / 2;
    let main = free.map_or(MAIN, |free| MAIN.min(usize::try_from(free / 4).unwrap_or(MAIN)));
    (cache.min(threads * CACHE_PER_THREAD).min(main), main)
}

/// Reads a buffer of about `bytes` with one thread, which reads all of it, and with `threads`,
/// which share it.
pub(super) fn measure(bytes: usize, threads: usize) -> ReadPeak {
    ReadPeak { bytes, gb_per_s: Rate { one: read_rate(bytes, 1), all: read_rate(bytes, threads) } }
}

fn read_rate(bytes: usize, threads: usize) -> f64 {
    let values = (bytes / size_of::<u64>() / threads).next_multiple_of(2 * LINE);
    // Written once, so that every page exists: untouched ones would all be the same zero page.
    let parts: Vec<Vec<u64>> = (0..threads).map(|_| vec![1; values]).collect();
    // Small buffers are read several times, so that the clock is read seldom.
    let times = (32 << 20) / (values * size_of::<u64>()) + 1;
    let gigabytes = (times * values * size_of::<u64>()) as f64 * 1e-9;
    best_rate(threads, |thread| {
        let took = seconds(|| {
            for _ in 0..times {
                black_box(any_bit(black_box(&parts[thread])));
            }
        });
        gigabytes / took
    })
}

/// The OR of all values.
fn any_bit(values: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(values: &[u64]) -> u64 {
            any_bit_of_halves(values)
        }
        // SAFETY: the feature is there.
        return unsafe { with_avx2(values) };
    }
    any_bit_of_halves(values)
}

/// Reads both halves side by side: memory has more under way for two streams than for one.
#[inline(always)]
fn any_bit_of_halves(values: &[u64]) -> u64 {
    let lines = values.as_chunks::<LINE>().0;
    let (front, back) = lines.split_at(lines.len() / 2);
    let mut sums = [[0; LINE]; 2];
    for lines in front.iter().zip(back) {
        for (sums, line) in sums.iter_mut().zip([lines.0, lines.1]) {
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum |= value);
        }
    }
    sums.into_iter().flatten().fold(0, |a, b| a | b)
}

/// Bytes of the first processor's largest cache, where Linux reports them.
fn last_level_cache() -> Option<usize> {
    let caches = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let sizes = caches.flatten().filter_map(|c| fs::read_to_string(c.path().join("size")).ok());
    sizes
        .filter_map(|text| text.trim().strip_suffix('K')?.parse::<usize>().ok())
        .max()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read() {
        for at in [0, 5 * LINE, 14 * LINE - 1] {
            let mut values = vec![0; 14 * LINE];
            values[at] = 4;
            assert_eq!(any_bit(&values), 4);
        }
    }

    #[test]
    fn the_buffer_in_the_cache_is_the_smaller_one() {
        let (cache, main) = buffer_sizes(2, Some(1 << 30));
        assert!(0 < cache && cache <= main && main <= MAIN);
    }
}
