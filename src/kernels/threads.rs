//! How many threads compute.

/// Threads that the kernels use: those of the current rayon pool.
pub(super) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Keeps candle from starting its own pool of threads, which spin while they wait for each other:
/// on a busy device they eat the processor that the work itself needs. Everything heavy here runs on
/// rayon; candle only adds tensors.
///
/// candle reads the environment variable `CANDLE_NUM_THREADS` when it first needs its pool and has no
/// other switch. A value that is already set stays.
///
/// Call this first thing in `main`, while the process has one thread.
pub fn keep_candle_single_threaded() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: changing the environment is unsound only while another thread may read it; by
        // contract this runs before the process has started any.
        unsafe { std::env::set_var(NAME, "1") };
    }
}
