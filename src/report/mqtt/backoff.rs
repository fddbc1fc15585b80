//! The delay before the next attempt to connect: exponential with full jitter.
//!
//! After a power cut a whole fleet comes back at once. Full jitter, a delay drawn evenly between
//! nothing and an exponentially growing limit, spreads it best (M. Brooker, "Exponential Backoff
//! And Jitter", AWS Architecture Blog, 2015).

use std::time::{Duration, SystemTime};

/// The delay before attempt number `attempt` (0 is the first): evenly between zero and
/// `min · 2^attempt`, at most `max`. `random` is a number drawn evenly from all of `u64`.
#[must_use]
pub fn delay(attempt: u32, min: Duration, max: Duration, random: u64) -> Duration {
    let limit = min.saturating_mul(2_u32.saturating_pow(attempt)).min(max);
    // The upper 53 bits, as a fraction below one.
    limit.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

/// The delay before the very first attempt after a start: up to `min_s` seconds.
#[must_use]
pub fn first_delay(min_s: u32) -> Duration {
    delay(0, seconds(min_s), Duration::MAX, random())
}

/// Seconds as the settings have them.
#[must_use]
pub const fn seconds(s: u32) -> Duration {
    Duration::from_secs(s as u64)
}

/// A random number for the jitter; without a source of randomness the clock's last digits.
#[must_use]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanoseconds = since_1970.unwrap_or_default().as_nanos() as u64;
        nanoseconds.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(128);

    #[test]
    fn the_limit_doubles_from_one_second_to_128() {
        let longest = |attempt| delay(attempt, MIN, MAX, u64::MAX).as_secs_f64().round();
        let limits = [0, 1, 2, 6, 7, 8, 40, u32::MAX].map(longest);
        assert_eq!(limits, [1.0, 2.0, 4.0, 64.0, 128.0, 128.0, 128.0, 128.0]);
    }

    #[test]
    fn delays_are_spread_evenly() {
        let step = u64::MAX / 1000;
        let delays: Vec<f64> =
            (0..1000).map(|n| delay(3, MIN, MAX, n * step).as_secs_f64()).collect();
        let mean = delays.iter().sum::<f64>() / 1000.0;
        assert!((mean - 4.0).abs() < 0.01, "{mean}");
        assert!(delays.iter().filter(|d| **d < 2.0).count().abs_diff(250) <= 1);
    }

    proptest! {
        #[test]
        fn no_delay_is_over_its_limit(attempt: u32, random: u64) {
            prop_assert!(delay(attempt, MIN, MAX, random) <= MAX);
        }
    }
}
