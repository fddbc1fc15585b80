//! Gives the whole process the lowest priority, and ties its life to its parent's.
//!
//! Runs while the process has one thread, since threads started later inherit all of it. What the
//! system refuses is logged and skipped, except for the parent-death signal, without which a worker
//! could outlive its daemon.

use log::warn;

/// The nice value with the least claim to the processor.
const NICEST: i32 = 19;

/// Makes this process, which must have one thread, as unobtrusive as it can be, and has it killed
/// when its parent ends. Returns `false` if `parent` is not (or no longer) its parent.
#[must_use]
pub fn lower(parent: u32) -> bool {
    // Its own session: a Ctrl-C meant for the daemon doesn't reach it, and where the kernel shares
    // the processor out by session (autogroup) its share is its own to give up.
    if let Err(error) = rustix::process::setsid() {
        warn!("cannot create a session: {error}");
    }
    least_claim();
    if let Err(error) = rustix::process::setpriority_process(None, NICEST) {
        warn!("cannot set the nice value: {error}");
    }
    dies_with(parent)
}

/// The idle classes of processor and disk, and the first place in line when memory runs out.
#[cfg(target_os = "linux")]
fn least_claim() {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
    };

    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Sets the nice value to 0 as well, which is refused where it was higher before; what counts is
    // the policy in the end.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    if thread_schedule_policy().ok() != Some(idle) {
        warn!("no SCHED_IDLE: the system refuses it");
    }
    let itself = ioprio::Target::Process(ioprio::Pid::from_raw(0));
    if let Err(error) = ioprio::set_priority(itself, ioprio::Priority::new(ioprio::Class::Idle)) {
        warn!("no idle I/O priority: {error}");
    }
    for (file, value) in [("oom_score_adj", "1000"), ("autogroup", "19")] {
        if let Err(error) = std::fs::write(format!("/proc/self/{file}"), value) {
            log::debug!("cannot write /proc/self/{file}: {error}");
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn least_claim() {}

/// Asks the kernel to kill this process when the thread that started it ends, and looks whether that
/// has happened before it could be asked.
fn dies_with(parent: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};

        if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
            warn!("it cannot be made to end with its parent: {error}");
            return false;
        }
    }
    rustix::process::getppid().is_some_and(|id| id.as_raw_nonzero().get().cast_unsigned() == parent)
}
