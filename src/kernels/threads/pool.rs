//! A pool of threads for pieces of work that take microseconds.
//!
//! A decoding step synchronizes its threads some two hundred times. So a thread that has run out of
//! work spins for [`SPIN_TIME`] before it sleeps: the next work of the same step finds it awake, and
//! an idle process does not spin. General-purpose pools sleep sooner, which made two threads slower
//! than one here.
//!
//! ```text
//!  caller:  publish job ─► wake sleepers ─► take parts … ─► withdraw job ─► wait until no thread is in it
//!  worker:  wait for a job ─► enter ─► take parts … ─► leave ─► wait
//! ```

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread spins for work before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(100);
/// How long a caller spins for the other threads before it yields its processor to them.
const YIELD_AFTER: Duration = Duration::from_micros(20);
/// Spins between two readings of the clock.
const SPINS_PER_READING: u32 = 32;
/// More threads than any target machine has.
const MOST_THREADS: usize = 1024;

/// Threads that compute together; the one that calls is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    /// The job at hand, or null. It lives on its caller's stack.
    job: AtomicPtr<Job<'static>>,
    /// Counts jobs, so that a thread recognizes a new one.
    number: AtomicU32,
    /// Threads that may be using `job`.
    inside: AtomicUsize,
    /// Whether a job is running: another caller then works alone.
    busy: AtomicBool,
    ended: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

struct Job<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    parts: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// Takes parts until there are none.
    fn work(&self) {
        let parts = || {
            loop {
                let part = self.next.fetch_add(1, SeqCst);
                if part >= self.parts {
                    return;
                }
                (self.f)(part);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(parts)) {
            // No thread begins another part.
            self.next.store(self.parts, SeqCst);
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

thread_local! {
    /// The pool of [`Pool::install`].
    static INSTALLED: Cell<Option<*const Pool>> = const { Cell::new(None) };
    /// Whether this thread is doing a part: what it calls then runs on it alone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static GLOBAL: OnceLock<Pool> = OnceLock::new();

/// Sets the number of threads that this process computes on, 0 for as many as its cgroup lets it
/// use; returns how many. Only the first call, and only before anything is computed, has an effect.
/// Large buffers that are freed go back to the system from here on.
pub fn start(threads: usize) -> usize {
    crate::kernels::memory::return_large_buffers();
    GLOBAL.get_or_init(|| Pool::new(threads)).threads
}

/// Runs `f` with the pool of this thread.
pub(super) fn with_current<R>(f: impl FnOnce(&Pool) -> R) -> R {
    match INSTALLED.get() {
        // SAFETY: `install` borrows the pool for as long as the pointer stands.
        Some(pool) => f(unsafe { &*pool }),
        None => f(GLOBAL.get_or_init(|| Pool::new(0))),
    }
}

impl Pool {
    /// A pool of `threads`, the caller's included; 0 for as many as this process may use: processors
    /// it may run on, and its cgroup's quota.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let usable = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if threads == 0 { usable() } else { threads }.min(MOST_THREADS);
        let shared = Arc::new(Shared {
            job: AtomicPtr::new(null_mut()),
            number: AtomicU32::new(0),
            inside: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let started = (1..threads).map_while(|i| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("compute-{i}"));
            builder.spawn(move || shared.serve()).ok()
        });
        let threads = 1 + started.count();
        Self { shared, threads }
    }

    /// How many threads compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` with this pool instead of the process's.
    pub fn install<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<*const Pool>);
        impl Drop for Restore {
            fn drop(&mut self) {
                INSTALLED.set(self.0);
            }
        }
        let _restore = Restore(INSTALLED.replace(Some(self)));
        f()
    }

    /// Runs `f(0)`, …, `f(parts - 1)`, each once, on all threads; returns when all are done.
    ///
    /// Within a part, or while another thread uses the pool, the parts run one after the other.
    ///
    /// # Panics
    /// If a part does.
    pub fn run(&self, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        let alone = self.threads == 1 || parts <= 1 || INSIDE.get();
        if alone || self.shared.busy.swap(true, SeqCst) {
            (0..parts).for_each(f);
            return;
        }
        let job = Job { f, parts, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.shared.offer(&job);
        INSIDE.set(true);
        job.work();
        INSIDE.set(false);
        self.shared.withdraw();
        self.shared.busy.store(false, SeqCst);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.shared.announce();
    }
}

impl Shared {
    fn offer(&self, job: &Job<'_>) {
        let job: *const Job<'_> = job;
        self.job.store(job.cast_mut().cast(), SeqCst);
        self.announce();
    }

    /// Tells all threads that there is a new job, or that the pool has ended.
    fn announce(&self) {
        self.number.fetch_add(1, SeqCst);
        // A thread counts itself before it checks for the last time, so it sees the number, or is
        // seen here; the lock then ensures that it either does not sleep yet or is woken.
        if self.sleepers.load(SeqCst) > 0 {
            let _lock = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
    }

    /// Takes the job back; afterwards no thread uses it.
    fn withdraw(&self) {
        self.job.store(null_mut(), SeqCst);
        let mut wait = Wait::new(YIELD_AFTER);
        while self.inside.load(SeqCst) != 0 {
            if wait.is_over() {
                std::thread::yield_now();
            }
        }
    }

    /// What each thread of the pool does until the pool ends.
    fn serve(&self) {
        INSIDE.set(true);
        let mut seen = 0;
        while !self.ended.load(SeqCst) {
            // Counted first: a thread that finds a job is seen by the caller that withdraws it.
            self.inside.fetch_add(1, SeqCst);
            let job = self.job.load(SeqCst);
            let number = self.number.load(SeqCst);
            if !job.is_null() && number != seen {
                // SAFETY: the job was not withdrawn when it was read, and is not gone while this
                // thread is counted as inside.
                unsafe { (*job).work() };
                seen = number;
            }
            self.inside.fetch_sub(1, SeqCst);
            self.wait(seen);
        }
    }

    /// Returns when there may be a job newer than number `seen`.
    fn wait(&self, seen: u32) {
        let mut wait = Wait::new(SPIN_TIME);
        while self.number.load(SeqCst) == seen || self.job.load(SeqCst).is_null() {
            if self.ended.load(SeqCst) {
                return;
            }
            if wait.is_over() {
                self.sleep(seen);
                return;
            }
        }
    }

    fn sleep(&self, seen: u32) {
        let mut lock = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, SeqCst);
        let nothing = || self.number.load(SeqCst) == seen || self.job.load(SeqCst).is_null();
        while nothing() && !self.ended.load(SeqCst) {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

/// A short wait that reads the clock now and then.
struct Wait {
    spins: u32,
    since: Option<Instant>,
    limit: Duration,
}

impl Wait {
    fn new(limit: Duration) -> Self {
        Self { spins: 0, since: None, limit }
    }

    /// Pauses for an instant; whether the limit has passed.
    fn is_over(&mut self) -> bool {
        std::hint::spin_loop();
        self.spins += 1;
        if !self.spins.is_multiple_of(SPINS_PER_READING) {
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_over_many_jobs() {
        for threads in 1..5 {
            let pool = Pool::new(threads);
            for parts in (0..200).chain([1000]) {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                pool.run(parts, &|part| {
                    counts[part].fetch_add(1, SeqCst);
                });
                assert!(counts.iter().all(|c| c.load(SeqCst) == 1), "{threads} {parts}");
            }
        }
    }

    #[test]
    fn threads_that_slept_wake_up_for_work() {
        let pool = Pool::new(3);
        for _ in 0..5 {
            std::thread::sleep(3 * SPIN_TIME);
            // Each part waits for the two others: it ends only if all threads take part.
            let arrived = AtomicUsize::new(0);
            pool.run(3, &|_| {
                arrived.fetch_add(1, SeqCst);
                while arrived.load(SeqCst) < 3 {
                    std::thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn work_within_work_and_beside_work_is_done_all_the_same() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.run(3, &|_| {
                            pool.run(2, &|_| {
                                count.fetch_add(1, SeqCst);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(count.load(SeqCst), 4 * 500 * 3 * 2);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_keeps_working() {
        let pool = Pool::new(2);
        for _ in 0..20 {
            let run = || pool.run(8, &|part| assert!(part != 5, "part five"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            pool.run(4, &|_| {});
        }
    }

    #[test]
    fn a_dropped_pool_ends_its_threads() {
        let pool = Pool::new(3);
        let shared = Arc::clone(&pool.shared);
        drop(pool);
        let start = Instant::now();
        while Arc::strong_count(&shared) > 1 {
            assert!(start.elapsed() < Duration::from_secs(20), "threads still run");
            std::thread::yield_now();
        }
    }
}
