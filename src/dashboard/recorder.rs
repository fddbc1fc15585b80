//! The thread that writes the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::DashboardError;
use super::history::{Batch, History};
use super::hub::now_ms;

/// Time between two transactions.
const EVERY: Duration = Duration::from_secs(1);
/// Records in a transaction, about: more would keep readers waiting.
const MOST: usize = 10_000;

/// Starts it. It ends once `stop` is set and nothing more comes.
pub fn start(
    mut history: History,
    (records, notes): (Receiver<Batch>, Receiver<Batch>),
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, DashboardError> {
    let run = move || {
        let (mut hurry, mut trouble) = (true, None);
        let mut unwritten = Batch::default();
        loop {
            let (batch, over) = gather(&records, &stop, hurry);
            notes.try_iter().for_each(|note| add(&mut unwritten, note));
            let noted = history.write(&unwritten);
            if noted.is_ok() {
                unwritten = Batch::default();
            }
            let written = noted.and_then(|()| history.write(&batch));
            if over {
                return;
            }
            let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
            let kept = written.and_then(|()| history.maintain(now));
            hurry = kept.as_ref().is_ok_and(|upkeep| upkeep.more);
            tell(&mut trouble, kept.err().map(|error| error.to_string()));
        }
    };
    std::thread::Builder::new()
        .name("recorder".into())
        .spawn(run)
        .map_err(DashboardError::system("the history's thread cannot start"))
}

fn add(all: &mut Batch, more: Batch) {
    all.samples.extend(more.samples);
    all.happenings.extend(more.happenings);
    all.spent.extend(more.spent);
    all.deeds.extend(more.deeds);
    all.acknowledgments.extend(more.acknowledgments);
    all.rollouts.extend(more.rollouts);
}

/// Says what is wrong once, and that it is over.
fn tell(before: &mut Option<String>, now: Option<String>) {
    match &now {
        Some(error) if now != *before => {
            log::error!("the history cannot be written, what comes meanwhile is lost: {error}");
        }
        None if before.is_some() => log::info!("the history can be written again"),
        _ => {}
    }
    *before = now;
}

/// What comes within a second, or sooner if there is much; and whether it was the last.
fn gather(records: &Receiver<Batch>, stop: &AtomicBool, hurry: bool) -> (Batch, bool) {
    let end = Instant::now() + if hurry { EVERY / 10 } else { EVERY };
    let mut all = Batch::default();
    let size = |batch: &Batch| batch.samples.len() + batch.happenings.len() + batch.spent.len();
    while size(&all) < MOST {
        match records.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(batch) => add(&mut all, batch),
            Err(RecvTimeoutError::Timeout) => {
                return (all, stop.load(Ordering::Relaxed));
            }
            Err(RecvTimeoutError::Disconnected) => return (all, true),
        }
    }
    (all, false)
}
