use std::path::Path;

use super::*;
use crate::engine::device::DeviceKind;

const GOOD: &str = "model = '/m.gguf'\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(Path::new("f.toml"), text)
}

/// The errors of `text`, each as `LINE: KEY: sentence`.
fn errors(text: &str) -> Vec<String> {
    parse(text).unwrap_err().errors.iter().map(ToString::to_string).collect()
}

/// Asserts that `text` has exactly these errors, each beginning with the given text.
#[track_caller]
fn assert_errors(text: &str, expected: &[&str]) {
    let found = errors(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
}

#[test]
fn a_model_is_all_that_is_needed() {
    let config = parse(GOOD).unwrap();

    assert_eq!(config, Config { model: "/m.gguf".into(), ..Config::default() });
}

#[test]
fn settings_survive_toml() {
    let config = Config { model: "/m.gguf".into(), ..Config::default() };

    assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn everything_wrong_is_said_at_once_and_in_the_order_of_the_file() {
    let text = "\
modle = '/m.gguf'
state_dir = 7

[device]
fleet = 'a/b'

[learn]
num_generations = 1
lerning_rate = 1e-4
steps = 'many'
rank = -3
method = 'latros'
target_modules = ['q_proj', 'x_proj', 'v_proj', 'w_proj']
threads = 2
beta = -1.0
state_dir = '/x'

[lern]
num_generations = 4

[compute]
mode = 3
batch = 8.5
memory_limit_mib = 5
";

    assert_errors(
        text,
        &[
            "1: modle: there is no such key; did you mean model?",
            "2: state_dir: this is a whole number, expected a path in quotes",
            "5: device.fleet: use 1 to 64",
            "8: learn.num_generations: is 1, but a rationale is compared with others",
            "9: learn.lerning_rate: there is no such key; did you mean learning_rate?",
            "10: learn.steps: this is a text, expected a whole number, 0 or more",
            "11: learn.rank: this is -3, expected a whole number, 0 or more",
            "12: learn.method: use one of \"latro\", \"sft\", \"sft_rationale\", \"auto\"; did you mean \"latro\"?",
            "13: learn.target_modules: unknown layer",
            "14: learn.threads: there is no such key here; it belongs to [compute]",
            "15: learn.beta: is -1",
            "16: learn.state_dir: there is no such key here; it belongs to the top",
            "18: lern: there is no such section; did you mean learn?",
            "22: compute.mode: this is a whole number, expected a word in quotes",
            "23: compute.batch: this is a number with a decimal point, expected a whole number",
            "24: compute.memory_limit_mib: is 5: use at least 64",
        ],
    );
}

#[test]
fn keys_and_sections_given_twice_are_found_with_the_rest() {
    let text = "\
model = '/m.gguf'
model = '/n.gguf'
[learn]
rank = 4
rank = 8
[learn]
kk = 4
";

    assert_errors(
        text,
        &[
            "2: model: this key is given twice",
            "5: learn.rank: this key is given twice",
            "6: learn: this section is given twice",
            "7: learn.kk: there is no such key",
        ],
    );
}

#[test]
fn a_device_that_the_build_lacks_is_an_error() {
    let text = |device| format!("{GOOD}[compute]\ndevice = \"{device}\"\n");

    assert!(parse(&text("cpu")).is_ok());
    assert_errors(&text("gpu"), &["3: compute.device: use one of"]);
    if !DeviceKind::Cuda.is_built_in() {
        assert_errors(&text("cuda"), &["3: compute.device: is cuda: this build has no cuda"]);
    }
}

#[test]
fn a_syntax_error_ends_it_and_says_so() {
    let error = parse("model = '/m.gguf'\nbatch 8\n[lern\nnum_generations = 1\n").unwrap_err();

    assert_eq!(error.errors.len(), 1, "{error}");
    assert!(error.to_string().starts_with("f.toml:2: this is not TOML: "), "{error}");
    assert!(!error.complete && error.summary().contains("was not checked"), "{error}");
}

#[test]
fn what_is_missing_is_reported_where_it_belongs() {
    assert_errors("[learn]\nnum_generations = 4\n", &["1: model: is missing"]);
    // The limit follows from another key that is given further down.
    let text = format!("{GOOD}[cycle]\nmin_held_out = 300\n");
    assert_errors(&text, &["2: cycle.max_held_out_questions: is 200: use at least"]);
}

#[test]
fn a_section_that_is_no_section_is_one_error() {
    assert_errors(
        &format!("{GOOD}learn = 5\n"),
        &["2: learn: this is a whole number, expected a section [learn]"],
    );
    assert_errors("[model]\nk = 1\n", &["1: model: this is a section, expected a path in quotes"]);
}

#[test]
fn what_the_ledger_does_not_keep_cannot_be_learned_from() {
    let text = format!("{GOOD}[learn]\nmethod = 'sft_rationale'\n");

    assert_errors(
        &text,
        &["3: learn.method: is sft_rationale, but the daemon keeps questions and"],
    );
}

#[test]
fn sections_are_checked_against_each_other() {
    let text = format!("{GOOD}[learn]\nprompts_per_step = 8\n[cycle]\nmin_new_tasks = 4\n");

    assert_errors(&text, &["5: cycle.min_new_tasks: is 4: use at least learn.prompts_per_step, 8"]);
}

#[test]
fn tags_have_a_name_and_one_value() {
    let text = format!("{GOOD}[device]\ntags = ['site=berlin', 'ring=canary']\n");
    let tags = parse(&text).unwrap().device.tags();
    assert_eq!(
        tags.into_iter().collect::<Vec<_>>(),
        [("ring".into(), "canary".into()), ("site".into(), "berlin".into())]
    );

    let wrong = "[device]\ntags = ['site', 'ring=a b', 'line=1', 'line=2', '=x']\n";
    assert_errors(
        &format!("{GOOD}{wrong}"),
        &[
            "3: device.tags: holds \"site\": write name=value",
            "3: device.tags: holds \"ring=a b\"",
            "3: device.tags: holds line twice",
            "3: device.tags: holds \"=x\"",
        ],
    );
}

#[test]
fn tasks_and_state_are_apart() {
    for (state, spool, expected) in [
        ("/var/l", "/var/l/../l/.", "4: tasks.folder: is also state_dir"),
        ("/var/l", "/var/l/spool", "4: tasks.folder: is inside state_dir"),
        ("/var/s/l", "/var/s", "2: state_dir: is inside tasks.folder"),
        ("/var/l", "/", "4: tasks.folder: is the root folder"),
    ] {
        let text = format!("{GOOD}state_dir = '{state}'\n[tasks]\nfolder = '{spool}'\n");
        assert_errors(&text, &[expected]);
    }
    assert!(parse(&format!("{GOOD}state_dir = '/var/l'\ntasks.folder = '/var/lo'\n")).is_ok());
}

#[test]
fn a_cycle_that_could_decide_nothing_is_refused() {
    let text = format!(
        "{GOOD}\
[promotion]
min_questions = 100
[cycle]
min_held_out = 99
check_after_held_out = 3
[tasks]
max_tasks = 500
"
    );

    assert_errors(
        &text,
        &[
            "5: cycle.min_held_out: is 99: use at least promotion.min_questions, 100",
            "6: cycle.check_after_held_out: is 3: use at least promotion.min_questions, 100",
            "7: tasks.held_out_share: holds out 50 of tasks.max_tasks",
        ],
    );
}

#[test]
fn every_section_is_asked_for_its_problems() {
    let text = format!(
        "{GOOD}\
[device]
name = '.'
[cycle]
retry_after_s = 0
[learn]
steps = 0
[compute]
batch = 0
[tasks]
max_line_kib = 0
[idle]
windows = ['never']
[promotion]
confidence = 1.0
[adapters]
keep_count = 0
[mqtt]
broker = 'http://x'
[hook]
time_limit_s = 0
[status]
socket = '/{}'
",
        "s".repeat(103)
    );
    let keys = [
        "device.name",
        "cycle.retry_after_s",
        "learn.steps",
        "compute.batch",
        "tasks.max_line_kib",
        "idle.windows",
        "promotion.confidence",
        "adapters.keep_count",
        "mqtt.broker",
        "hook.time_limit_s",
        "status.socket",
    ];

    let error = parse(&text).unwrap_err();

    let found: Vec<_> = error.errors.iter().map(|e| (e.line.unwrap(), e.key.as_str())).collect();
    let expected: Vec<_> = keys.into_iter().enumerate().map(|(i, key)| (2 * i + 3, key)).collect();
    assert_eq!(found, expected, "{error}");
}

#[test]
fn paths_are_absolute() {
    let text = "model = 'm.gguf'\nstate_dir = '/var/..'\n[status]\nsocket = './s'\n";

    assert_errors(
        text,
        &[
            "1: model: must be an absolute path",
            "2: state_dir: is the root folder",
            "4: status.socket: must be an absolute path",
        ],
    );
}

#[test]
fn errors_are_bounded_and_say_that_there_are_more() {
    let keys: String = (0..10_000).map(|i| format!("zzzz{i} = 1\n")).collect();

    let error = parse(&keys).unwrap_err();

    assert_eq!((error.errors.len(), error.complete), (50, false));
}

#[test]
fn an_error_is_one_line_whatever_the_key_is() {
    let text = format!("{GOOD}\"a\\nb{}\" = 1\n", "x".repeat(1000));

    let error = parse(&text).unwrap_err();

    assert_eq!(error.lines().count(), error.to_string().lines().count());
    assert!(error.to_string().len() < 200, "{error}");
}

mod from_afar {
    use super::*;

    fn with(key: &str, value: &str) -> Result<Config, String> {
        let config = Config { model: "/m.gguf".into(), ..Config::default() };
        config.with(&[(key.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn limits_and_amounts_can_be_changed() {
        assert_eq!(with("idle.max_celsius", "75").unwrap().idle.max_celsius, 75.0);
        assert_eq!(with("learn.steps", "7").unwrap().learn.steps, 7);
        assert_eq!(
            with("learn.reward", "mean_prob").unwrap(),
            with("learn.reward", "'mean_prob'").unwrap()
        );
        assert_eq!(with("idle.windows", "['22:00-06:00']").unwrap().idle.windows.len(), 1);
    }

    #[test]
    fn files_programs_and_those_who_command_cannot() {
        for key in [
            "model",
            "state_dir",
            "hook.command",
            "mqtt.broker",
            "mqtt.operator_keys",
            "mqtt.allow_unsigned",
            "tasks.folder",
            "idle.inhibit_paths",
            "promotion.general_prompts",
            "adapters.readable_by",
            "status.socket",
            "device.name",
        ] {
            let why = with(key, "true").unwrap_err();
            assert!(why.contains("cannot be set from afar"), "{why}");
        }
    }

    #[test]
    fn values_are_checked_as_those_of_the_file_are() {
        for (key, value, expected) in [
            ("learn.num_generations", "1", "learn.num_generations is 1"),
            ("learn.steps", "many", "learn.steps this is a text"),
            ("cycle.min_held_out", "3", "promotion.min_questions"),
            ("idle.nonsense", "1", "there is no setting"),
            ("learn.steps", "1\nk = 99999", "learn.steps"),
        ] {
            let why = with(key, value).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
}

mod files {
    use super::*;

    fn load(content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, content).unwrap();
        Config::load(&path).unwrap_err().to_string()
    }

    #[test]
    fn only_a_small_regular_file_of_text_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Config::load(&folder.path().join("none")).unwrap_err().to_string();

        assert!(missing.contains("none: cannot be read"), "{missing}");
        assert!(
            Config::load(folder.path()).unwrap_err().to_string().contains("not a regular file")
        );
        assert!(load(b"model = '/m'\n# \xff\n").contains("not UTF-8 text (line 2)"));
        assert!(load(&vec![b'#'; 2 << 20]).contains("larger than 1024 KiB"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();

        assert!(Config::load(&pipe).unwrap_err().to_string().contains("not a regular file"));
    }
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        /// RowChunks of TOML in any order: closer to the truth than random letters.
        #[test]
        fn no_heap_of_pieces_panics(pieces in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", "\"", "'", "\"\"\"", "#", " ",
            "learn", "num_generations", "model", "compute", "target_modules", "1", "-1", "1e9", "true", "é",
            "99999999999999999999", "1979-05-27", "'q_proj'", "[learn]\n", "num_generations = 2\n", "a.b.c = 1\n",
        ]), 0..40)) {
            let _ = parse(&pieces.concat());
        }
    }
}
