//! The daemon's handle on its worker: starts it, talks to it, freezes and ends it.
//!
//! Owns the process and its pipes. Reads lines of a bounded length; a worker that breaks the protocol
//! is killed and reported. Doesn't know what the messages are for: the daemon decides what to ask,
//! when to freeze, and when a silent worker has to be killed.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{timeout, timeout_at};

use super::protocol::{FromWorker, MAX_LINE_BYTES, ToWorker, decode, encode};
use super::{Heartbeat, WorkerSettings};
use crate::system::files::Root;
use crate::system::{notify, proc, secret};

/// The daemon's own variables, which may hold secrets.
const OWN_PREFIX: &[u8] = b"LATROD_";
/// How long a process may take to end once its output has.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// What a worker has said, or how it has ended.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    Message(FromWorker),
    /// It is gone; asking again says the same.
    Ended(End),
}

/// How a worker has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// By itself, with this code; 0 if it was asked to.
    #[error("the worker ended with code {0}")]
    Exited(i32),
    /// By a signal: 9 is how the kernel ends what takes too much memory.
    #[error("the worker was ended by signal {0}")]
    Killed(i32),
    /// It was killed because of this.
    #[error("the worker was killed: {0}")]
    Broken(String),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Killed(signal.unwrap_or(0)),
        }
    }
}

/// A worker process. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    pid: Pid,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What was read and is not yet a whole line.
    buffer: Vec<u8>,
    /// Bytes at the buffer's beginning that hold no end of a line.
    searched: usize,
    /// Set once its output has ended: when its process must have.
    gone_by: Option<tokio::time::Instant>,
    /// Why it was killed, if it broke the protocol or did not end.
    broken: Option<String>,
    ended: Option<End>,
    heartbeat: Heartbeat,
    started: Instant,
    frozen: bool,
}

/// The program that is running, as something that can be started: also after an upgrade has replaced
/// its file, so that daemon and worker are always of one version.
///
/// # Errors
/// If the system doesn't say.
pub fn own_program() -> io::Result<PathBuf> {
    // In the new process the link leads to the same program until it is executed.
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

impl Worker {
    /// Starts `program worker`, see [`own_program`].
    ///
    /// The worker is killed when the thread that calls this ends (that is what Linux ties it to): call
    /// it on the main thread. It needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn(program: &Path, settings: &WorkerSettings) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .arg0("latrod")
            .args(["worker", "--parent", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        for name in not_inherited(std::env::vars_os().map(|(name, _)| name)) {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (Some(pid), Some(stdin), Some(stdout)) = (pid, child.stdin.take(), child.stdout.take())
        else {
            return Err(io::Error::other("the worker has no process id or no pipes"));
        };
        let [load, stall] = [settings.load_s, settings.stall_s].map(Duration::from_secs);
        Ok(Self {
            child,
            pid,
            stdin: Some(stdin),
            stdout,
            buffer: Vec::new(),
            searched: 0,
            gone_by: None,
            broken: None,
            ended: None,
            heartbeat: Heartbeat::new(Duration::ZERO, load, stall),
            started: Instant::now(),
            frozen: false,
        })
    }

    /// Sends a message. A line is far smaller than a pipe, so that this doesn't wait for a worker that
    /// doesn't read; don't drop the future half-way all the same.
    ///
    /// # Errors
    /// If the worker is gone ([`Self::next`] says how) or was told to end.
    pub async fn send(&mut self, message: &ToWorker) -> io::Result<()> {
        let line = encode(message)?;
        let now = self.started.elapsed();
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(&line).await?;
        stdin.flush().await?;
        match message {
            ToWorker::Train(_) | ToWorker::Compare(_) => self.heartbeat.job(now),
            ToWorker::Setup(_) | ToWorker::Stop => {}
        }
        Ok(())
    }

    /// The next thing that the worker says, or how it has ended. Can be dropped at any point without
    /// losing anything.
    pub async fn next(&mut self) -> WorkerEvent {
        loop {
            if let Some(end) = &self.ended {
                return WorkerEvent::Ended(end.clone());
            }
            if let Some(line) = self.take_line() {
                match decode::<FromWorker>(&line) {
                    Ok(message) => {
                        self.heard(&message);
                        return WorkerEvent::Message(message);
                    }
                    Err(error) => self.give_up_on(error.to_string()),
                }
            } else if let Some(gone_by) = self.gone_by {
                self.wait_until(gone_by).await;
            } else if self.buffer.len() >= MAX_LINE_BYTES {
                self.give_up_on(super::protocol::ProtocolError::TooLong.to_string());
            } else {
                self.read_some().await;
            }
        }
    }

    /// The next whole line in the buffer.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer[self.searched..].iter().position(|b| *b == b'\n');
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    async fn read_some(&mut self) {
        let mut chunk = [0; 8192];
        match self.stdout.read(&mut chunk).await {
            Ok(0) => self.gone_by = Some(tokio::time::Instant::now() + GONE_WITHIN),
            Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.give_up_on(format!("it cannot be read from: {error}")),
        }
    }

    /// Waits for the end of a process whose output has ended; one that doesn't end is killed, and one
    /// that cannot be killed is given up on.
    async fn wait_until(&mut self, gone_by: tokio::time::Instant) {
        let ended = timeout_at(gone_by, self.child.wait()).await;
        let how = |broken: &mut Option<String>, end| broken.take().map_or(end, End::Broken);
        self.ended = match ended {
            Ok(Ok(status)) => Some(how(&mut self.broken, End::from(status))),
            Ok(Err(error)) => Some(End::Broken(format!("its end cannot be seen: {error}"))),
            Err(_) if self.broken.is_none() => {
                self.give_up_on("it has closed its output but still runs".into());
                None
            }
            Err(_) => Some(End::Broken("it is still there although it was killed".into())),
        };
    }

    /// Kills it; [`Self::next`] will say why.
    fn give_up_on(&mut self, why: String) {
        self.kill();
        self.broken = Some(why);
        self.buffer = Vec::new();
        self.searched = 0;
        self.gone_by = Some(tokio::time::Instant::now() + GONE_WITHIN);
    }

    fn heard(&mut self, message: &FromWorker) {
        let now = self.started.elapsed();
        if message.ends_job() { self.heartbeat.idle(now) } else { self.heartbeat.beat(now) }
    }

    /// Stops it where it is, within a millisecond. It computes nothing until [`Self::thaw`], and loses
    /// nothing.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        self.frozen = true;
        self.heartbeat.freeze(self.started.elapsed());
        Ok(())
    }

    /// Lets it run again.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn thaw(&mut self) -> io::Result<()> {
        self.signal(Signal::CONT)?;
        self.frozen = false;
        self.heartbeat.thaw(self.started.elapsed());
        Ok(())
    }

    /// Whether it is frozen.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// How long it has shown no progress, without the time in which it was frozen.
    #[must_use]
    pub fn quiet(&self) -> Duration {
        self.heartbeat.quiet(self.started.elapsed())
    }

    /// Whether it should have shown progress for too long; [`Self::kill`] it then.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.heartbeat.is_stalled(self.started.elapsed())
    }

    /// Ends it: first by the end of its input, upon which it saves its work and exits; after half of
    /// `patience` by SIGTERM, after all of it by SIGKILL. What it says meanwhile goes to `heard`.
    pub async fn end(&mut self, patience: Duration, mut heard: impl FnMut(FromWorker)) -> End {
        self.stdin = None;
        // A process that is gone cannot be thawed, which is fine.
        let _ = self.thaw();
        if let Ok(end) = timeout(patience / 2, self.rest(&mut heard)).await {
            return end;
        }
        let _ = self.signal(Signal::TERM);
        if let Ok(end) = timeout(patience / 2, self.rest(&mut heard)).await {
            return end;
        }
        self.give_up_on("it did not end when asked to".into());
        self.rest(&mut heard).await
    }

    /// Reads its messages until it ends.
    async fn rest(&mut self, heard: &mut impl FnMut(FromWorker)) -> End {
        loop {
            match self.next().await {
                WorkerEvent::Message(message) => heard(message),
                WorkerEvent::Ended(end) => return end,
            }
        }
    }

    /// Kills it at once; it also ends if it is frozen. [`Self::next`] says when it is gone.
    pub fn kill(&mut self) {
        // One that is gone already needs no signal.
        let _ = self.signal(Signal::KILL);
    }

    /// Its process id, while it is there.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The processor time that it has used so far, in ticks of the system's clock (mostly 10 ms);
    /// `None` where the system doesn't say, or it is gone.
    #[must_use]
    pub fn cpu_ticks(&self) -> Option<u64> {
        Some(proc::process_times(&Root::new("/"), self.pid()?).ok()?.used)
    }

    /// Sends a signal. As long as it has not been waited for, its id belongs to nobody else.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.child.id().is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the worker is gone"));
        }
        Ok(kill_process(self.pid, signal)?)
    }
}

/// What a worker must not inherit: the service manager's handles on the daemon, which it would speak
/// through or mistake for its own, and secrets.
fn not_inherited(names: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    names.filter(|name| {
        notify::VARIABLES.iter().chain(&secret::VARIABLES).any(|unwanted| name == unwanted)
            || name.as_encoded_bytes().starts_with(OWN_PREFIX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_daemon_is_not_passed_on() {
        let names = ["PATH", "NOTIFY_SOCKET", "LATROD_MQTT_PASSWORD", "RUST_LOG", "WATCHDOG_USEC"];

        let kept_back: Vec<_> = not_inherited(names.into_iter().map(OsString::from)).collect();

        assert_eq!(kept_back, ["NOTIFY_SOCKET", "LATROD_MQTT_PASSWORD", "WATCHDOG_USEC"]);
    }
}
