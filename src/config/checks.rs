//! Invalid settings: first within each section, then across sections.
//!
//! Only the settings are looked at, never the device, so a file can be checked anywhere.

use std::path::{Component, Path, PathBuf};

use super::document::Document;
use super::{Config, Sections, Visit};
use crate::latro::settings::Method;
use crate::settings::{Kind, Settings, Value};

/// Reports everything invalid to `document`.
pub fn check<C: Sections>(config: &C, document: &mut Document<'_>) {
    config.visit(&mut Check { document });
    config.check_across(document);
}

/// Reports what is wrong between the daemon's sections.
pub fn across(config: &Config, document: &mut Document<'_>) {
    paths(config, document);
    amounts(config, document);
    method(config, document);
}

/// Asks each section for its problems.
struct Check<'a, 't> {
    document: &'a mut Document<'t>,
}

impl Visit for Check<'_, '_> {
    fn section<S: Settings>(&mut self, section: &'static str, settings: &S) {
        let problems = settings.problems();
        for field in S::FIELDS.iter().filter(|field| field.kind == Kind::Path) {
            let is_relative = matches!((field.value)(settings), Value::Text(path)
                if !path.is_empty() && !Path::new(path).is_absolute());
            if is_relative && !problems.iter().any(|(name, _)| *name == field.name) {
                self.document.refuse(&format!("{section}.{}", field.name), RELATIVE);
            }
        }
        for (name, sentence) in problems {
            self.document.refuse(&format!("{section}.{name}"), sentence);
        }
    }
}

const RELATIVE: &str = "must be an absolute path, since a service has no working directory";

fn paths(config: &Config, document: &mut Document<'_>) {
    let (state, spool) = (&config.state_dir, &config.tasks.folder);
    for (key, path) in [("model", &config.model), ("state_dir", state)] {
        if path.as_os_str().is_empty() {
            document.refuse(key, "is missing: give an absolute path");
        } else if !path.is_absolute() {
            document.refuse(key, RELATIVE);
        }
    }
    let (state, spool) = (plain(state), plain(spool));
    let root = Path::new("/");
    for (key, path) in [("state_dir", &state), ("tasks.folder", &spool)] {
        if path == root {
            document.refuse(key, "is the root folder: choose another one");
        }
    }
    if state == root || spool == root {
        return;
    }
    // What the daemon saves must not look like new tasks, and the tasks' owners must not write to its state.
    if spool == state {
        document.refuse("tasks.folder", "is also state_dir: give the tasks a folder of their own");
    } else if spool.starts_with(&state) {
        document.refuse(
            "tasks.folder",
            "is inside state_dir: choose a folder outside it, because others write to this one",
        );
    } else if state.starts_with(&spool) {
        document.refuse(
            "state_dir",
            "is inside tasks.folder: choose a folder outside it, because others write to that one",
        );
    }
}

/// Tasks in the ledger are questions and answers.
fn method(config: &Config, document: &mut Document<'_>) {
    if config.learn.method == Method::SftRationale {
        let sentence = "is sft_rationale, but the daemon keeps questions and answers alone: use latro, \
                        sft or auto";
        document.refuse("learn.method", sentence);
    }
}

fn amounts(config: &Config, document: &mut Document<'_>) {
    let (cycle, least) = (&config.cycle, config.promotion.min_questions);
    let (tasks, prompts) = (cycle.min_new_tasks, config.learn.prompts_per_step);
    if tasks < prompts as u64 {
        let sentence =
            format!("is {tasks}: use at least learn.prompts_per_step, {prompts}, to fill a step");
        document.refuse("cycle.min_new_tasks", sentence);
    }
    let too_few = |number: usize| {
        format!("is {number}: use at least promotion.min_questions, {least}, to allow a decision")
    };
    if cycle.min_held_out < least {
        document.refuse("cycle.min_held_out", too_few(cycle.min_held_out));
    }
    let check = cycle.check_after_held_out;
    if check != 0 && check < least {
        document.refuse(
            "cycle.check_after_held_out",
            format!("{}; 0 turns these checks off", too_few(check)),
        );
    }
    let held_out = config.tasks.held_out_share * config.tasks.max_tasks as f64;
    if held_out < cycle.min_held_out as f64 {
        let sentence = format!(
            "holds out {held_out:.0} of tasks.max_tasks, but cycle.min_held_out is {}: no cycle would \
             ever begin",
            cycle.min_held_out
        );
        document.refuse("tasks.held_out_share", sentence);
    }
}

/// A path without `.` and `..`, resolved without looking at the disk.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}
