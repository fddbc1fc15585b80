//! As many open files as there are connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::SimulatorError;

/// Files that are open besides connections.
const OTHERS: u64 = 64;

/// Raises the soft limit of open files so that there can be this many connections.
///
/// # Errors
/// [`SimulatorError::OpenFiles`] if the hard limit is too low.
pub fn allow(connections: u64) -> Result<(), SimulatorError> {
    let needed = connections.saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(allowed) = maximum.filter(|maximum| *maximum < needed) {
        return Err(SimulatorError::OpenFiles { needed, allowed });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).map_err(|error| {
        let what = "the limit of open files cannot be raised";
        SimulatorError::System { what, source: error.into() }
    })
}
