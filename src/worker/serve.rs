//! The worker's side: its threads, its jobs one after the other, and its ends.
//!
//! ```text
//!   stdin ─► listen ──job──► main thread ──► stdout
//!              │ Stop           │   ▲ looks at the interrupt, which counts the looks
//!              └──► interrupt ──┘   │
//!            signals ───┘         beat: once a second, if the count has grown
//! ```
//!
//! At the end of its input, or asked by SIGTERM, the worker interrupts its job, which saves what it
//! can, and exits; after a bound also if the job doesn't react. Standard output carries the protocol
//! and nothing else; the log goes to standard error.

use std::any::Any;
use std::io::{BufReader, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use log::{error, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure::Halt;
use super::load::{Model, load};
use super::protocol::{
    Failure, FailureKind, FromWorker, ProtocolError, Setup, ToWorker, decode, encode, read_line,
};
use super::{job, priority};
use crate::engine::interrupt::Interrupt;
use crate::engine::{Engine, with_engine};

/// How long the main thread is given to end, once asked to.
const EXIT_BOUND: Duration = Duration::from_secs(5);
/// Between two looks at the heartbeat.
const BEAT: Duration = Duration::from_secs(1);
/// The exit codes, as those of the commands.
const FAILED: u8 = 1;
const USAGE: u8 = 64;

/// What wakes the main thread.
enum Wake {
    Ask(ToWorker),
    End,
}

/// What the threads share.
struct Desk {
    /// The interrupt of the current job, or of the last one.
    current: Mutex<Interrupt>,
    /// Whether a job is running: from its line until just before the line that ends it.
    busy: AtomicBool,
    ending: AtomicBool,
    code: AtomicU8,
    /// Keeps lines whole.
    out: Mutex<()>,
    wake: SyncSender<Wake>,
}

/// Serves the process `parent`, the daemon that started this one, over standard input and output.
///
/// Call it while the process has one thread: it gives all threads to come the lowest priority.
#[must_use]
pub fn serve(parent: u32) -> ExitCode {
    if !priority::lower(parent) {
        error!("process {parent} is not the parent of this worker, or has ended; it ends, too");
        return ExitCode::from(USAGE);
    }
    // The words of a panic may quote what was worked on, so that only its place is told.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |at| format!(" at {at}"));
        error!("a panic{place}");
    }));
    let (wake, woken) = sync_channel(4);
    let desk = Arc::new(Desk {
        current: Mutex::default(),
        busy: AtomicBool::new(false),
        ending: AtomicBool::new(false),
        code: AtomicU8::new(0),
        out: Mutex::default(),
        wake,
    });
    let signals = match Signals::new([SIGTERM, SIGINT, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            error!("cannot watch for signals: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let on = |run: fn(&Desk)| {
        let desk = Arc::clone(&desk);
        move || run(&desk)
    };
    thread::spawn(on(listen));
    thread::spawn(on(beat));
    let at_desk = Arc::clone(&desk);
    thread::spawn(move || watch_signals(&at_desk, signals));
    work(&desk, &woken);
    ExitCode::from(desk.code.load(Ordering::SeqCst))
}

impl Desk {
    fn current(&self) -> Interrupt {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a line. A daemon that doesn't read any more has gone: then the worker ends as well.
    fn say(&self, message: &FromWorker) {
        let _whole = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stdout();
        let written = encode(message).and_then(|line| {
            out.write_all(&line)?;
            out.flush()
        });
        if let Err(error) = written {
            warn!("cannot tell the daemon: {error}");
            self.end();
        }
    }

    /// Writes the last line of the current job. The daemon may answer it with the next job at once, so
    /// that the hands must be free before.
    fn done(&self, message: &FromWorker) {
        self.busy.store(false, Ordering::SeqCst);
        self.say(message);
    }

    fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.current().set();
        // Where the queue is full the main thread is awake anyway.
        let _ = self.wake.try_send(Wake::End);
    }

    fn end_with(&self, code: u8, failure: Failure) {
        self.code.store(code, Ordering::SeqCst);
        self.done(&FromWorker::Failed(failure));
        self.end();
    }
}

/// Reads the daemon's lines until their end.
fn listen(desk: &Desk) {
    let mut input = BufReader::new(io::stdin().lock());
    let mut line = Vec::new();
    loop {
        match read_line(&mut input, &mut line) {
            Ok(true) => {
                match decode(&line).map_err(|e| e.to_string()).and_then(|m| take(desk, m)) {
                    Ok(()) => {}
                    Err(sentence) => {
                        desk.end_with(USAGE, Failure::new(FailureKind::Protocol, sentence));
                        break;
                    }
                }
            }
            Ok(false) => break,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                desk.end_with(USAGE, Failure::new(FailureKind::Protocol, error));
                break;
            }
            Err(error) => {
                warn!("cannot listen to the daemon: {error}");
                break;
            }
        }
    }
    desk.end();
    exit_after_bound();
}

/// Passes a message on to where it belongs.
fn take(desk: &Desk, message: ToWorker) -> Result<(), String> {
    if message == ToWorker::Stop {
        desk.current().set();
        return Ok(());
    }
    if desk.busy.swap(true, Ordering::SeqCst) {
        return Err("a job was requested while another was running".into());
    }
    {
        let mut current = desk.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = current.renewed();
    }
    desk.wake.try_send(Wake::Ask(message)).map_err(|e| format!("the job is not taken: {e}"))
}

/// SIGTERM ends the worker; what a terminal sends to its whole group is for the daemon to decide.
fn watch_signals(desk: &Desk, mut signals: Signals) {
    for signal in signals.forever() {
        if signal == SIGTERM {
            desk.end();
            exit_after_bound();
        }
    }
}

/// Ends the process if the main thread hasn't within a bound.
fn exit_after_bound() {
    thread::sleep(EXIT_BOUND);
    error!("the computation does not respond; the worker exits anyway");
    process::exit(i32::from(FAILED));
}

/// Tells the daemon once a second that the computation makes progress, if it does.
fn beat(desk: &Desk) {
    let mut last = 0;
    loop {
        thread::sleep(BEAT);
        let beats = desk.current().checks();
        if beats != last {
            last = beats;
            desk.say(&FromWorker::Beat { beats });
        }
    }
}

/// Loads the model and does the jobs, until the end.
fn work(desk: &Desk, woken: &Receiver<Wake>) {
    match woken.recv() {
        Ok(Wake::Ask(ToWorker::Setup(setup))) => {
            with_engine!(setup.device, E => work_on::<E>(desk, woken, &setup));
        }
        Ok(Wake::Ask(_)) => {
            let sentence = ProtocolError::NotAMessage("the first one must be a setup".into());
            desk.end_with(USAGE, Failure::new(FailureKind::Protocol, sentence));
        }
        Ok(Wake::End) | Err(_) => {}
    }
}

/// The same, on the engine of the model's device.
fn work_on<E: Engine>(desk: &Desk, woken: &Receiver<Wake>, setup: &Setup) {
    let mut model: Model<E> = match guarded(|| load(setup)) {
        Ok(Ok((model, loaded))) => {
            desk.done(&FromWorker::Loaded(Box::new(loaded)));
            model
        }
        Ok(Err(failure)) | Err(failure) => return desk.end_with(FAILED, failure),
    };
    while let Ok(Wake::Ask(message)) = woken.recv() {
        match guarded(|| answer(desk, &mut model, &message)) {
            Ok(last) => desk.done(&last),
            // After a panic the state in memory is anybody's guess; the one on disk is whole.
            Err(failure) => return desk.end_with(FAILED, failure),
        }
        if desk.ending.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Does a job; returns the line that ends it.
fn answer(desk: &Desk, model: &mut Model<impl Engine>, message: &ToWorker) -> FromWorker {
    let interrupt = desk.current();
    let say = |message| desk.say(&message);
    let ended = match message {
        ToWorker::Train(job) => job::train(model, job, &interrupt, say),
        ToWorker::Compare(job) => job::compare(model, job, &interrupt, say),
        ToWorker::Setup(_) | ToWorker::Stop => {
            let sentence = "a second setup; end the worker and start another".to_owned();
            Err(Halt::Failed(Failure::new(FailureKind::Protocol, sentence)))
        }
    };
    ended.unwrap_or_else(FromWorker::from)
}

/// Does something that may panic, which is a failure then.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic: Box<dyn Any + Send>| {
        // Its words may hold text of a task, and dropping them may panic again.
        std::mem::forget(panic);
        Failure::new(FailureKind::Other, "the worker has panicked; its log says where")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_that_repeats_nothing() {
        let failure = guarded(|| panic!("text of a task: canary")).unwrap_err();

        assert_eq!(failure.kind, FailureKind::Other);
        assert!(!failure.sentence.contains("canary"), "{}", failure.sentence);
        assert_eq!(guarded(|| 7), Ok(7));
    }

    #[test]
    fn a_panic_on_another_thread_of_the_pool_is_one_here() {
        let pool = crate::kernels::threads::Pool::new(2);
        let failed = guarded(|| pool.run(2, &|_| panic!("on its thread")));

        assert!(failed.is_err());
    }
}
