//! `[hook]`: the command that runs after the active adapter has changed.

use crate::settings::{Problem, Rule, settings};

settings! {
    /// A command that runs after every promotion and rollback, for example to restart the model's
    /// server. It gets LATROD_EVENT, LATROD_ADAPTER and LATROD_VERSION.
    pub struct HookSettings {
        /// The program and its arguments, such as ["systemctl", "restart", "llama-server"]. Empty:
        /// no command.
        ///
        /// No shell is involved; for one, write ["sh", "-c", "…"].
        command: Vec<String> = Vec::new() => Rule::Entries(64),
        /// How long the command may run, in seconds, before it is killed with everything it started.
        ///
        /// 60 are enough to restart a server that loads a model. Nothing else is promoted meanwhile.
        time_limit_s: u64 = 60 => Rule::Whole(1, 3600),
    }
    check HookSettings::conflicts
}

impl HookSettings {
    fn conflicts(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if let Some(program) = self.command.first() {
            if program.is_empty() {
                found.push(("command", "begins with an empty word instead of a program".into()));
            } else if program.contains('/') && !program.starts_with('/') {
                let sentence = format!(
                    "begins with {program}: use an absolute path, or a name to find in PATH"
                );
                found.push(("command", sentence));
            }
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            found.push(("command", "has a word with a NUL character".into()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let names = |settings: HookSettings| -> Vec<&'static str> {
            settings.problems().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(HookSettings::default()), [""; 0]);
        assert_eq!(
            names(HookSettings { time_limit_s: 0, ..HookSettings::default() }),
            ["time_limit_s"]
        );
        for program in ["", "./hook.sh", "a\0b"] {
            let settings = HookSettings { command: vec![program.into()], time_limit_s: 60 };
            assert_eq!(names(settings), ["command"], "{program:?}");
        }
    }
}
