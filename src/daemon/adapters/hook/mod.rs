//! The command that runs after the active adapter has changed, with a time limit: for example one
//! that restarts the server which uses the adapter.
//!
//! Owns how it runs: its environment, its process group, the end of its output. Doesn't know what it
//! does, and never fails the promotion that it follows: its outcome is a value to report.

use std::ffi::OsStr;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::config::sections::hook::HookSettings;

/// Why the active adapter has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// A better one took its place.
    Promoted,
    /// An older one is back.
    RolledBack,
}

impl HookKind {
    /// The name in `LATROD_EVENT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// What the command is told.
#[derive(Debug, Clone, Copy)]
pub struct HookEvent<'a> {
    /// `LATROD_EVENT`: `promoted` or `rolled_back`.
    pub kind: HookKind,
    /// `LATROD_ADAPTER`: the folder of the adapter that is active now.
    pub adapter: &'a Path,
    /// `LATROD_VERSION`: its version.
    pub version: &'a str,
    /// `LATROD_PREVIOUS`: the version that was active before; empty if it was the bare model.
    pub previous: Option<&'a str>,
}

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HookOutcome {
    /// What became of it.
    pub result: HookResult,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The end of what it wrote to stdout and stderr, at most 2 KiB, without control characters.
    pub output: String,
}

/// What became of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookResult {
    /// There is no hook.
    None,
    /// It ended with exit code 0.
    Done,
    /// It ended with another exit code.
    Failed(i32),
    /// A signal ended it.
    Killed(i32),
    /// It was killed because its time was over.
    TimedOut,
    /// It could not be started; the output says why.
    NotStarted,
}

impl HookOutcome {
    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.result, HookResult::None | HookResult::Done)
    }

    /// The outcome in one clause, without the command's output.
    #[must_use]
    pub fn sentence(&self) -> String {
        let seconds = self.seconds;
        match self.result {
            HookResult::None => "no hook".to_owned(),
            HookResult::Done => format!("the hook succeeded after {seconds:.1} s"),
            HookResult::Failed(code) => {
                format!("the hook failed with exit code {code} after {seconds:.1} s")
            }
            HookResult::Killed(signal) => {
                format!("the hook was ended by signal {signal} after {seconds:.1} s")
            }
            HookResult::TimedOut => format!("the hook was killed at its limit, {seconds:.1} s"),
            HookResult::NotStarted => "the hook could not be started".to_owned(),
        }
    }
}

/// Variables of our environment that the command sees. All others stay here: the service manager's
/// sockets (`NOTIFY_SOCKET`: a hook must not speak for the daemon), credentials and passwords.
const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// Bytes of output that are kept.
const OUTPUT_BYTES: usize = 2048;
/// How long output is waited for once the command has ended, or was killed.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Runs the command to its end, or to its limit.
///
/// It runs in a process group of its own, with stdin empty, in a clean environment. What it leaves
/// running in the background goes on, but can no longer write to its output. When this future is
/// dropped, the whole group is killed.
pub async fn run(settings: &HookSettings, event: &HookEvent<'_>) -> HookOutcome {
    let start = Instant::now();
    let outcome =
        |result, output| HookOutcome { result, seconds: start.elapsed().as_secs_f64(), output };
    let Some((program, arguments)) = settings.command.split_first() else {
        return outcome(HookResult::None, String::new());
    };
    let mut child = match command(program, arguments, event).spawn() {
        Ok(child) => child,
        Err(error) => return outcome(HookResult::NotStarted, format!("{program}: {error}")),
    };
    let mut group = Group::of(&child);
    let tail = Mutex::new(Tail::default());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut collecting = pin!(async {
        tokio::join!(collect(stdout, &tail), collect(stderr, &tail));
    });
    let mut collected = false;
    let mut limit = pin!(sleep(Duration::from_secs(settings.time_limit_s)));
    let result = loop {
        tokio::select! {
            status = child.wait() => break match status {
                Ok(status) => result_of(status),
                Err(_) => HookResult::Killed(0),
            },
            () = &mut collecting, if !collected => collected = true,
            () = &mut limit => {
                group.kill();
                // Reaped here so that it leaves no zombie; one that hangs in the kernel is left to
                // tokio.
                let _ = timeout(AFTERWARDS, child.wait()).await;
                break HookResult::TimedOut;
            }
        }
    };
    group.release();
    if !collected {
        // A process in the background may hold the pipe for ever.
        let _ = timeout(AFTERWARDS, collecting).await;
    }
    let output = tail.lock().unwrap_or_else(PoisonError::into_inner).text();
    outcome(result, output)
}

fn command(program: &str, arguments: &[String], event: &HookEvent) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("LATROD_EVENT", event.kind.name())
        .env("LATROD_ADAPTER", event.adapter)
        .env("LATROD_VERSION", event.version)
        .env("LATROD_PREVIOUS", OsStr::new(event.previous.unwrap_or_default()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

fn result_of(status: ExitStatus) -> HookResult {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => HookResult::Done,
        (Some(code), _) => HookResult::Failed(code),
        (None, signal) => HookResult::Killed(signal.unwrap_or(0)),
    }
}

/// The command's process group, killed on drop unless released. While its leader isn't reaped, its
/// id can't be another's.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // It may have ended this moment, which is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn collect(pipe: Option<impl AsyncRead + Unpin>, tail: &Mutex<Tail>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..read]);
    }
}

/// The last bytes of what was pushed.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(OUTPUT_BYTES);
        self.0.drain(..surplus);
    }

    fn text(&self) -> String {
        // Cutting may have split a character; what is left of it isn't part of the text.
        let whole = self.0.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[whole..])
            .chars()
            .filter(|&c| c == '\n' || !c.is_control())
            .collect::<String>()
            .trim()
            .to_owned()
    }
}

#[cfg(test)]
mod tests;
