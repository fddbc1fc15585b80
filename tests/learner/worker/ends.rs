//! How a worker comes to its end: asked to, with its daemon, or because it or its daemon went mad.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use latrod::worker::child::{End, WorkerEvent};
use latrod::worker::protocol::{FromWorker, MAX_LINE_BYTES, ToWorker, encode};
use tokio::time::sleep;

use super::driven::{Driven, endless, job, same_by_hand, setup, train};
use crate::support::{adapter_bytes, command, program};

/// The fields of a `stat` file in `/proc` behind the name, the first of which is the state.
fn stat(path: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(path.join("stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn every_thread_of_it_has_the_least_claim() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = Driven::ready().await;
    worker.send(train(&endless(folder.path()))).await;
    worker.a_step().await;

    let threads = worker.threads();

    assert!(threads.len() >= 4, "main, listen, beat and at least one of the pool: {threads:?}");
    for thread in threads {
        // proc(5) counts from the process id: 19 is the nice value, 41 the policy; 5 is SCHED_IDLE.
        let fields = stat(&thread).unwrap();
        assert_eq!((fields[19 - 3].as_str(), fields[41 - 3].as_str()), ("19", "5"), "{thread:?}");
        let id: i32 = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let target = ioprio::Target::Process(ioprio::Pid::from_raw(id));
        let class = ioprio::get_priority(target).unwrap().class();
        assert_eq!(class, Some(ioprio::Class::Idle), "{thread:?}");
    }
    let id = worker.0.pid().unwrap();
    let first = fs::read_to_string(format!("/proc/{id}/oom_score_adj")).unwrap();
    assert_eq!(first.trim(), "1000", "the first to go when memory runs out");
}

#[tokio::test]
async fn asked_to_end_it_saves_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (by_hand, dir) = (folder.path().join("by-hand"), folder.path().join("worker"));
    same_by_hand(&by_hand).run().done();

    let mut worker = Driven::ready().await;
    worker.send(train(&job(&dir))).await;
    worker.a_step().await;
    worker.0.freeze().unwrap();
    let (mut said, asked) = (Vec::new(), Instant::now());
    let end = worker.0.end(Duration::from_secs(60), |message| said.push(message)).await;

    assert_eq!(end, End::Exited(0));
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert!(said.contains(&FromWorker::Stopped), "{said:?}");
    assert_eq!(worker.0.pid(), None);
    assert_eq!(worker.event().await, WorkerEvent::Ended(End::Exited(0)), "however often asked");
    assert!(worker.0.send(&ToWorker::Stop).await.is_err());
    let mut next = Driven::ready().await;
    next.send(train(&job(&dir))).await;
    assert_eq!(next.answer().await, FromWorker::Trained { steps: 4 });
    assert!(adapter_bytes(&dir) == adapter_bytes(&by_hand), "the same adapter, bit by bit");
}

#[tokio::test]
async fn a_working_worker_has_a_heartbeat() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = Driven::ready().await;

    sleep(Duration::from_millis(2500)).await;
    worker.send(train(&endless(folder.path()))).await;
    let mut beats = Vec::new();
    let mut said = 0;
    while beats.len() < 2 {
        match worker.next().await {
            FromWorker::Beat { beats: n } => beats.push(n),
            FromWorker::Began(_) => assert!(beats.is_empty(), "no beat without work"),
            other => assert!(!other.ends_job()),
        }
        said += 1;
        assert!(said < 1000, "steps, but no beats");
    }

    assert!(beats[1] > beats[0] && beats[0] > 0, "{beats:?}");
    assert!(!worker.0.is_stalled());
    assert!(worker.0.quiet() < Duration::from_secs(1));
}

/// Starts a worker under a shell that is its parent; returns the shell and the worker's id. The
/// worker's input stays open as long as the shell's handle does.
#[cfg(target_os = "linux")]
fn under_a_shell() -> (Child, PathBuf) {
    let script = r#"exec 3<&0; "$0" worker --parent $$ <&3 & echo $! >&2; wait"#;
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .arg(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(shell.stderr.as_mut().unwrap()).read_line(&mut id).unwrap();
    (shell, Path::new("/proc").join(id.trim()))
}

/// Whether a process is there, and not merely waiting to be buried.
fn is_there(process: &Path) -> bool {
    stat(process).is_some_and(|fields| fields[0] != "Z")
}

#[cfg(target_os = "linux")]
#[test]
fn it_dies_with_its_daemon_even_when_frozen() {
    for frozen in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (mut shell, worker) = under_a_shell();
        let mut input = shell.stdin.take().unwrap();
        input.write_all(&encode(&ToWorker::Setup(Box::new(setup()))).unwrap()).unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap()).lines();
        assert!(said.next().unwrap().unwrap().contains("loaded"));
        input.write_all(&encode(&train(&endless(folder.path()))).unwrap()).unwrap();
        assert!(said.next().unwrap().unwrap().contains("began"));
        if frozen {
            let id = worker.file_name().unwrap();
            assert!(Command::new("kill").arg("-STOP").arg(id).status().unwrap().success());
        }
        assert!(is_there(&worker));

        shell.kill().unwrap();
        let killed = Instant::now();

        while is_there(&worker) {
            assert!(killed.elapsed() < Duration::from_secs(20), "frozen: {frozen}");
            std::thread::sleep(Duration::from_millis(5));
        }
        shell.wait().unwrap();
        drop(input);
    }
}

#[test]
fn it_serves_its_parent_only() {
    let orphan = command(&["worker", "--parent", "1"]).stdin(Stdio::piped()).output().unwrap();

    assert_eq!(orphan.status.code(), Some(64));
    assert!(orphan.stdout.is_empty());
}

/// Sends bytes to a worker and closes its input; returns what it said.
fn fed(bytes: &[u8]) -> Output {
    let parent = std::process::id().to_string();
    let mut child = command(&["worker", "--parent", &parent])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

#[test]
fn nonsense_is_an_error_and_no_panic() {
    let job = encode(&train(&job(Path::new("nowhere")))).unwrap();
    let setup = encode(&ToWorker::Setup(Box::new(setup()))).unwrap();
    let endless = vec![b'x'; MAX_LINE_BYTES + 10];
    let nested = "[".repeat(100_000);
    for (bytes, what) in [
        (b"canary\n".as_slice(), "it is not JSON"),
        (b"\xff\xfe\n", "it is not JSON"),
        (b"\n", "it is cut off"),
        (b"{\"type\":\"dance\"}\n", "an unknown type, field or value"),
        (b"{\"type\":\"stop\"", "it is cut off"),
        (&endless, "is longer than"),
        (&[nested.as_bytes(), b"\n"].concat(), "not a message"),
        (&job, "the first one must be a setup"),
        (&[&setup[..], &setup[..]].concat(), "while another was running"),
    ] {
        let out = fed(bytes);

        let said = String::from_utf8(out.stdout).unwrap();
        assert_eq!(out.status.code(), Some(64), "{what}: {said}");
        let last = said.lines().rfind(|line| line.contains("failed")).unwrap_or_default();
        assert!(last.contains("\"protocol\"") && last.contains(what), "{what}: {said}");
        let log = String::from_utf8(out.stderr).unwrap();
        assert!(!log.contains("canary") && !said.contains("canary"), "{log}{said}");
        assert!(!log.contains("panic"), "{log}");
    }
}

#[test]
fn a_daemon_that_says_nothing_is_left_in_peace() {
    let out = fed(b"");

    assert_eq!((out.status.code(), out.stdout.len()), (Some(0), 0));
}

/// A shell script as a program.
fn script(folder: &Path, lines: &str) -> PathBuf {
    let path = folder.join("script");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_program_that_is_no_worker_is_killed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    for (lines, what) in [
        ("exec yes", "not a message"),
        ("exec cat /dev/zero", "is longer than"),
        ("echo '{\"type\":\"stopped\",\"more\":'; exec sleep 60", "not a message"),
        ("exec >&-; exec sleep 60", "closed its output"),
    ] {
        let mut worker = Driven::start_program(&script(folder.path(), lines));

        let End::Broken(why) = worker.end().await else { panic!("{lines} is none") };

        assert!(why.contains(what), "{lines}: {why}");
        assert_eq!(worker.0.pid(), None, "{lines}");
    }
}

#[tokio::test]
async fn one_that_does_not_want_to_end_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let stubborn = script(folder.path(), "trap '' TERM; while :; do sleep 0.1; done");
    let mut worker = Driven::start_program(&stubborn);

    let end = worker.0.end(Duration::from_millis(400), |_| {}).await;

    assert_eq!(end, End::Broken("it did not end when asked to".into()));
}

#[tokio::test]
async fn a_worker_that_is_let_go_of_is_gone() {
    let worker = Driven::ready().await;
    let process = Path::new("/proc").join(worker.0.pid().unwrap().to_string());
    assert!(is_there(&process));

    drop(worker);

    let dropped = Instant::now();
    while is_there(&process) {
        assert!(dropped.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn people_are_not_shown_the_worker() {
    let mut help = String::new();
    let mut child = command(&["--help"]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut help).unwrap();
    child.wait().unwrap();

    assert!(help.contains("train") && !help.contains("worker"), "{help}");
}
