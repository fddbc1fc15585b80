use super::*;

fn shell(script: &str, time_limit_s: u64) -> HookSettings {
    HookSettings { command: vec!["sh".into(), "-c".into(), script.into()], time_limit_s }
}

fn run_now(settings: &HookSettings) -> HookOutcome {
    let event = HookEvent {
        kind: HookKind::RolledBack,
        adapter: Path::new("/state/adapters/00000002-0a1b2c3d"),
        version: "00000002-0a1b2c3d",
        previous: Some("00000003-4e5f6071"),
    };
    runtime().block_on(run(settings, &event))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn without_a_command_nothing_runs() {
    let outcome = run_now(&HookSettings::default());
    assert_eq!(outcome.result, HookResult::None);
    assert!(outcome.is_ok());
}

#[test]
fn the_command_is_told_what_happened() {
    let script = "echo $LATROD_EVENT $LATROD_ADAPTER; echo $LATROD_VERSION $LATROD_PREVIOUS >&2";
    let outcome = run_now(&shell(script, 20));
    assert_eq!(outcome.result, HookResult::Done);
    assert!(outcome.output.contains("rolled_back /state/adapters/00000002-0a1b2c3d"));
    assert!(outcome.output.contains("00000002-0a1b2c3d 00000003-4e5f6071"));
}

#[test]
fn it_sees_nothing_else_of_our_environment() {
    // Cargo gives its tests variables of its own; they stand for the daemon's secrets.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let outcome = run_now(&HookSettings { command: vec!["env".into()], time_limit_s: 20 });
    assert_eq!(outcome.result, HookResult::Done);
    let foreign: Vec<&str> = outcome
        .output
        .lines()
        .map(|line| line.split_once('=').map_or(line, |(name, _)| name))
        .filter(|name| !name.starts_with("LATROD_") && !PASSED_ON.contains(name))
        .collect();
    assert_eq!(foreign, [""; 0]);
}

#[test]
fn its_failure_is_told_with_the_end_of_its_output() {
    let script = "seq 10000; printf 'out of m\\303\\251mory\\a'; exit 3";
    let outcome = run_now(&shell(script, 20));
    assert_eq!(outcome.result, HookResult::Failed(3));
    assert!(outcome.output.len() <= OUTPUT_BYTES);
    assert!(outcome.output.ends_with("9999\n10000\nout of mémory"), "{}", outcome.output);
    assert!(outcome.sentence().contains("exit code 3"));
}

#[test]
fn what_cannot_be_started_is_told() {
    let settings = HookSettings { command: vec!["/no/such/hook".into()], time_limit_s: 5 };
    let outcome = run_now(&settings);
    assert_eq!(outcome.result, HookResult::NotStarted);
    assert!(outcome.output.starts_with("/no/such/hook: "), "{}", outcome.output);
}

/// Tests that look at processes by way of `/proc`.
#[cfg(target_os = "linux")]
mod processes {
    use super::*;

    /// Whether a process is there that isn't a zombie.
    fn lives(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    }

    fn until(what: impl Fn() -> bool) -> bool {
        (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            what()
        })
    }

    #[test]
    fn at_its_limit_it_is_killed_with_all_it_started() {
        let outcome = run_now(&shell("sleep 61 & echo $!; trap '' TERM; sleep 62", 1));
        assert_eq!(outcome.result, HookResult::TimedOut);
        assert!((1.0..10.0).contains(&outcome.seconds), "{}", outcome.seconds);
        let background = outcome.output.trim();
        assert!(background.parse::<u32>().is_ok(), "{background}");
        assert!(until(|| !lives(background)), "process {background} lives on");
    }

    #[test]
    fn a_background_process_neither_holds_it_up_nor_is_killed() {
        let outcome = run_now(&shell("sleep 60 & echo $!", 20));
        assert_eq!(outcome.result, HookResult::Done);
        assert!(outcome.seconds < 10.0, "{}", outcome.seconds);
        let left: i32 = outcome.output.trim().parse().expect("its id");
        // A kill would have closed its output before its end shows in `/proc`.
        std::thread::sleep(Duration::from_millis(200));
        assert!(lives(outcome.output.trim()));
        let left = Pid::from_raw(left).expect("an id");
        rustix::process::kill_process(left, Signal::KILL).expect("it is ours to end");
    }

    #[test]
    fn dropping_the_run_kills_the_group() {
        let dir = tempfile::tempdir().expect("a folder");
        let note = dir.path().join("pid");
        let settings = shell(&format!("sleep 63 & echo $! > {}; wait", note.display()), 60);
        let event = HookEvent {
            kind: HookKind::Promoted,
            adapter: dir.path(),
            version: "1",
            previous: None,
        };
        let pid = || std::fs::read_to_string(&note).unwrap_or_default().trim().to_owned();
        runtime().block_on(async {
            let mut running = pin!(run(&settings, &event));
            while pid().is_empty() {
                let _ = timeout(Duration::from_millis(10), &mut running).await;
            }
        });
        assert!(until(|| !lives(&pid())), "process {} lives on", pid());
    }
}
