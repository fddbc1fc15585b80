//! Files of rollouts, as `latrod debug score` and `grad` take them.

use std::path::Path;

use crate::cli::CliError;
use crate::cli::shared::common::usage;
use crate::latro::rollout::RolloutGroup;

/// The largest rollout file that is read.
const MAX_ROLLOUT_BYTES: u64 = 1 << 30;

/// Reads rollouts, one JSON object a line.
pub fn read_rollouts(path: &Path) -> Result<Vec<RolloutGroup>, CliError> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|e| usage(format!("{shown}: {e}")))?.len();
    if size > MAX_ROLLOUT_BYTES {
        return Err(usage(format!("{shown} is larger than {MAX_ROLLOUT_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| usage(format!("{shown}: {e}")))?;
    let mut rollouts = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = i + 1;
        let rollout: RolloutGroup = serde_json::from_str(line)
            .map_err(|e| usage(format!("{shown}, line {line_number}: {e}")))?;
        rollouts.push(rollout);
    }
    if rollouts.is_empty() {
        return Err(usage(format!("{shown} holds no rollouts")));
    }
    Ok(rollouts)
}
