//! The manual pages and completions in `packages/` are made from the command line, and committed so that
//! a package for another processor can be built without running the program. After a change of the command
//! line, `LATROD_WRITE_PACKAGES=1 cargo test --test packages` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Files by their paths in `packages/`.
type Files = BTreeMap<PathBuf, String>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packages")
}

/// What follows the options in `--help`: lines as they are, because most are examples.
fn notes(command: &Command) -> Roff {
    let mut roff = Roff::new();
    if let Some(text) = command.get_after_long_help().or(command.get_after_help()) {
        roff.control("SH", ["NOTES"]).control("nf", []);
        for line in text.to_string().lines() {
            if line.is_empty() {
                roff.control("sp", []);
            } else {
                roff.text([roman(line)]);
            }
        }
        roff.control("fi", []);
    }
    roff
}

/// The page of one command.
fn page(command: &Command, version: &str) -> String {
    let man = Man::new(command.clone()).source(format!("latrod {version}")).manual("latrod");
    let mut text = Vec::new();
    let written = (|| {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut text)?;
        }
        notes(command).to_writer(&mut text)
    })();
    written.expect("memory takes everything");
    // Each section brings the same definition of apostrophes: one is enough.
    let text = String::from_utf8(text).expect("text");
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let is_preamble = line.starts_with(".ie ") || line.starts_with(".el ");
        if !(is_preamble && lines.contains(&line)) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// Pages of `command` and all commands below it.
fn pages(command: &Command, version: &str, files: &mut Files) {
    let name = command.get_display_name().unwrap_or(command.get_name());
    files.insert(Path::new("man").join(format!("{name}.1")), page(command, version));
    for below in command.get_subcommands() {
        pages(below, version, files);
    }
}

/// The command line without what is hidden from people.
fn command_line() -> Command {
    let whole = latrod::cli::command_line();
    let shown = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
    Command::new("latrod")
        .version(env!("CARGO_PKG_VERSION"))
        .about(whole.get_about().cloned().expect("a sentence"))
        .disable_help_subcommand(true)
        .subcommands(shown)
}

/// Everything that is made.
fn made() -> Files {
    let mut files = Files::new();
    let mut root = command_line();
    root.build();
    pages(&root, env!("CARGO_PKG_VERSION"), &mut files);
    for (shell, name) in
        [(Shell::Bash, "latrod"), (Shell::Zsh, "_latrod"), (Shell::Fish, "latrod.fish")]
    {
        let mut text = Vec::new();
        generate(shell, &mut command_line(), "latrod", &mut text);
        let path = Path::new("completions").join(shell.to_string()).join(name);
        files.insert(path, String::from_utf8(text).expect("text"));
    }
    files
}

/// Everything that is there in the folders that hold nothing else.
fn there() -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder().join("man"), folder().join("completions")];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("text");
                files.insert(path.strip_prefix(folder()).expect("below it").into(), text);
            }
        }
    }
    files
}

#[test]
fn manual_pages_and_completions_are_those_of_the_command_line() {
    let made = made();
    if std::env::var_os("LATROD_WRITE_PACKAGES").is_some() {
        for path in there().keys() {
            fs::remove_file(folder().join(path)).expect("removed");
        }
        for (path, text) in &made {
            let path = folder().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
    }

    let there = there();
    let stale: Vec<&PathBuf> = made
        .keys()
        .chain(there.keys().filter(|path| !made.contains_key(*path)))
        .filter(|path| made.get(*path) != there.get(*path))
        .collect();
    assert!(
        stale.is_empty(),
        "packages/ is stale: {stale:?}; LATROD_WRITE_PACKAGES=1 cargo test --test packages writes it anew"
    );
}

#[test]
fn every_command_has_a_page_that_names_its_options() {
    let made = made();
    for name in ["latrod", "latrod-run", "latrod-train", "latrod-validate", "latrod-debug-score"] {
        assert!(made.contains_key(Path::new(&format!("man/{name}.1"))), "{name}");
    }
    assert!(!made.contains_key(Path::new("man/latrod-worker.1")), "the worker is not for people");
    let validate = &made[Path::new("man/latrod-validate.1")];
    assert!(validate.contains(r"\-\-config"), "{validate}");
    // An example stands on a line of its own.
    assert!(
        validate
            .lines()
            .any(|line| line.trim() == r"latrod validate \-\-config /etc/latrod/latrod.toml")
    );
}
