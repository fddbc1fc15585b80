//! The configurations that are handed out, and `latrod validate` on them and on broken ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use latrod::config::Config;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// The daemon's: the files for kinds of devices, and the reference.
fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(configs()).unwrap().map(|entry| entry.unwrap().path());
    let is_daemons = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "toml") && !path.ends_with("dashboard.toml")
    };
    let mut files: Vec<_> = entries.filter(is_daemons).collect();
    files.sort();
    files
}

mod handed_out {
    use super::*;

    #[test]
    fn every_file_can_be_used() {
        let files = files();

        assert!(files.len() >= 5, "{files:?}");
        for file in files {
            if let Err(errors) = Config::load(&file) {
                panic!("{errors}");
            }
        }
    }

    #[test]
    fn every_device_differs_from_the_defaults_and_says_why() {
        for file in files().into_iter().filter(|file| !file.ends_with("latrod.toml")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let settings =
                text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
            let comments = text.lines().filter(|line| line.starts_with("# "));

            assert!(3 * comments.count() >= settings.count(), "{}", file.display());
            assert_ne!(Config::load(&file).unwrap().idle, Config::default().idle);
        }
    }
}

mod reference {
    use super::*;

    /// A line of the reference that gives a setting or, behind `#`, its default.
    struct Line {
        key: String,
        text: String,
        has_default: bool,
    }

    fn read() -> (String, Vec<Line>) {
        let text = std::fs::read_to_string(configs().join("latrod.toml")).unwrap();
        let mut section = String::new();
        let mut lines = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = format!("{}.", name.trim_end_matches(']'));
            }
            // Prose has a space after the #, a setting has none.
            let setting = line.strip_prefix('#').unwrap_or(line);
            let Some((name, _)) = setting.split_once(" = ") else { continue };
            if name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains(' ') {
                lines.push(Line {
                    key: format!("{section}{name}"),
                    text: setting.into(),
                    has_default: !setting.ends_with("# no default"),
                });
            }
        }
        (text, lines)
    }

    /// The reference with the # of some settings taken away.
    fn with(chosen: impl Fn(&Line) -> bool) -> String {
        let (text, lines) = read();
        let mut settings = lines.iter();
        let chosen_line = |line: &str| {
            let setting = line.strip_prefix('#').unwrap_or(line);
            match settings.as_slice().first() {
                Some(next) if next.text == setting => {
                    let next = settings.next().unwrap();
                    if chosen(next) { setting.to_owned() } else { line.to_owned() }
                }
                _ => line.to_owned(),
            }
        };
        text.lines().map(chosen_line).collect::<Vec<_>>().join("\n")
    }

    /// The names of a struct's fields, as serde tells them to whoever uses another.
    fn fields<T: DeserializeOwned>(section: &str) -> BTreeSet<String> {
        let Err(error) = toml::from_str::<T>("no_such_field = 1") else {
            panic!("[{section}] takes any key");
        };
        let message = error.message().to_owned();
        let names = message.split('`').skip(1).step_by(2).skip(1);
        names.map(|name| format!("{section}.{name}")).collect()
    }

    fn all_keys() -> BTreeSet<String> {
        fn of<T: DeserializeOwned>(_: &T, section: &str) -> BTreeSet<String> {
            fields::<T>(section)
        }
        let Config {
            model: _,
            state_dir: _,
            device,
            cycle,
            learn,
            compute,
            tasks,
            idle,
            promotion,
            adapters,
            mqtt,
            hook,
            status,
        } = Config::default();
        let sections = [
            of(&device, "device"),
            of(&cycle, "cycle"),
            of(&learn, "learn"),
            of(&compute, "compute"),
            of(&tasks, "tasks"),
            of(&idle, "idle"),
            of(&promotion, "promotion"),
            of(&adapters, "adapters"),
            of(&mqtt, "mqtt"),
            of(&hook, "hook"),
            of(&status, "status"),
        ];
        let top = ["model", "state_dir"].map(String::from);
        sections.into_iter().flatten().chain(top).collect()
    }

    #[test]
    fn is_made_from_the_settings_themselves() {
        is_current("latrod.toml", &latrod::config::reference::reference());
    }

    #[cfg(feature = "operator")]
    #[test]
    fn of_the_dashboard_is_made_from_its_settings_and_can_be_used() {
        is_current("dashboard.toml", &latrod::config::dashboard::reference());

        let read = latrod::config::dashboard::load(&configs().join("dashboard.toml")).unwrap();

        assert_eq!(read, latrod::dashboard::Settings::default());
    }

    #[cfg(feature = "operator")]
    #[test]
    fn of_the_dashboard_errors_are_found_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dashboard.toml");
        let wrong = "[page]\nlisten = \"here\"\nfleets = [\"a/b\"]\nusres = []\n[history]\nmax_mib = 1\n\
                     [mqtt]\nbroker = \"http://x\"\n";
        std::fs::write(&file, wrong).unwrap();
        let errors = latrod::config::dashboard::load(&file).unwrap_err().to_string();
        let expected = [
            "2: page.listen",
            "3: page.fleets",
            "4: page.usres",
            "6: history.max_mib",
            "8: mqtt.broker",
        ];
        for key in expected {
            assert!(errors.contains(key), "{key}: {errors}");
        }
        assert!(errors.contains("users"), "{errors}");
    }

    /// A reference file must be what the program makes.
    fn is_current(name: &str, made: &str) {
        let path = configs().join(name);
        if std::env::var_os("LATROD_WRITE_REFERENCE").is_some() {
            // Renamed into place, since other tests read it meanwhile.
            let new = path.with_extension("new");
            std::fs::write(&new, made).unwrap();
            std::fs::rename(&new, &path).unwrap();
        }
        let is_current = std::fs::read_to_string(path).unwrap() == made;
        assert!(is_current, "LATROD_WRITE_REFERENCE=1 cargo test --test config writes {name} anew");
    }

    #[test]
    fn names_every_setting_once() {
        let (_, lines) = read();
        let named: BTreeSet<_> = lines.iter().map(|line| line.key.clone()).collect();

        let all = all_keys();
        assert_eq!(all.difference(&named).collect::<Vec<_>>(), [""; 0], "are not in it");
        assert_eq!(named.difference(&all).collect::<Vec<_>>(), [""; 0], "are no settings");
        assert_eq!(named.len(), lines.len(), "a setting is shown twice");
    }

    #[test]
    fn shows_the_defaults() {
        let (_, lines) = read();
        let shown = Config::parse(Path::new("shown"), &with(|line| line.has_default)).unwrap();

        let model = shown.model.clone();
        assert_eq!(shown, Config { model, ..Config::default() });
        // A line that stayed a comment would pass unread, so look at the text as well.
        let text: toml::Table = toml::from_str(&with(|line| line.has_default)).unwrap();
        for line in lines.iter().filter(|line| line.has_default) {
            let mut at = Some(&text);
            let parts: Vec<_> = line.key.split('.').collect();
            for part in &parts[..parts.len() - 1] {
                at = at.and_then(|table| table.get(*part)).and_then(toml::Value::as_table);
            }
            assert!(at.unwrap().contains_key(*parts.last().unwrap()), "{}", line.key);
        }
    }

    #[test]
    fn what_has_no_default_is_written_as_it_may_be() {
        let all: Config = toml::from_str(&with(|_| true)).unwrap();

        assert!(all.mqtt.password_file.is_some() && all.mqtt.key_file.is_some());
    }
}

mod command {
    use super::*;

    /// Runs `latrod validate` on a file with this text: exit code, stdout, stderr, and the file.
    fn validate(text: &str, options: &[&str]) -> (i32, String, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        let output = Command::cargo_bin("latrod")
            .unwrap()
            .args(["validate", "--config"])
            .arg(&file)
            .args(options)
            .env_remove("LATROD_MQTT_PASSWORD")
            .env_remove("CREDENTIALS_DIRECTORY")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr), file.display().to_string())
    }

    #[test]
    fn says_what_it_understood_and_warns() {
        let text = "model = '/nonexistent/m.gguf'\n[device]\nname = 'press-7'\nfleet = 'plant'\n\
                    [compute]\nthreads = 3\n[tasks]\nfolder = '/nonexistent/spool'\n\
                    [mqtt]\nbroker = 'mqtt://broker.example'\nusername = 'u'\n";

        let (code, out, err, file) = validate(text, &[]);

        assert_eq!((code, err.as_str()), (0, ""));
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(
            lines[..7],
            [
                &format!("{file} can be used"),
                "  device   press-7 of fleet plant",
                "  model    /nonexistent/m.gguf",
                "  tasks    /nonexistent/spool",
                "  state    /var/lib/latrod",
                "  compute  fast, 3 threads",
                "  broker   mqtt://broker.example",
            ]
        );
        let warned: Vec<_> = lines[7..].iter().map(|l| l.split(": ").nth(1).unwrap()).collect();
        let expected =
            ["model", "tasks.folder", "mqtt.broker", "mqtt.operator_keys", "mqtt.password_file"];
        assert_eq!(warned, expected, "{out}");
    }

    #[test]
    fn nothing_is_warned_of_where_nothing_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let (model, spool) = (folder.path().join("m.gguf"), folder.path().join("spool"));
        std::fs::write(&model, "").unwrap();
        std::fs::create_dir(&spool).unwrap();
        let text = format!(
            "model = '{}'\nstate_dir = '{}'\ntasks.folder = '{}'\ndevice.name = 'd'\n",
            model.display(),
            folder.path().join("state").display(),
            spool.display(),
        );

        let (code, out, _, _) = validate(&text, &["--json"]);

        let said: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &said["valid"]), (0, &Value::Bool(true)), "{out}");
        assert_eq!(said["warnings"], serde_json::json!([]));
        assert_eq!(said["understood"]["device"], "d");
    }

    #[test]
    fn prints_all_errors_for_editors_to_jump_to() {
        let text = "state_dir = 3\n[learn]\nlerning_rate = 1\nnum_generations = 1\n";

        let (code, out, err, file) = validate(text, &[]);

        assert_eq!((code, out.as_str()), (78, ""));
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), 5, "{err}");
        let begins = [
            "1: model: ",
            "1: state_dir: ",
            "3: learn.lerning_rate: ",
            "4: learn.num_generations: ",
        ];
        for begin in begins {
            let begin = format!("{file}:{begin}");
            assert!(lines.iter().any(|line| line.starts_with(&begin)), "{begin}\n{err}");
        }
        assert_eq!(lines[4], format!("latrod: {file} has 4 errors"));
    }

    #[test]
    fn errors_are_json_where_asked_for() {
        let (code, out, _, _) = validate("model = '/m'\n[learn]\nsetps = 1\n", &["--json"]);

        let said: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &said["valid"]), (78, &Value::Bool(false)));
        let expected = serde_json::json!([{
            "line": 3, "key": "learn.setps", "sentence": "there is no such key", "suggestion": "steps",
        }]);
        assert_eq!(said["errors"], expected);
    }

    #[test]
    fn a_file_that_is_not_there_is_one_sentence() {
        let output = Command::cargo_bin("latrod")
            .unwrap()
            .args(["validate", "--config", "/none.toml"])
            .output();
        let output = output.unwrap();

        assert_eq!(output.status.code(), Some(78));
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.starts_with("/none.toml: cannot be read: No such file"), "{err}");
    }
}
