//! `latrod plot`: learning curves of training runs as one SVG picture.

pub mod curve;

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use crate::cli::CliError;
use crate::cli::plot::curve::{Over, RunCurve};
use crate::cli::shared::choice::choice;

/// Draw the learning curves of training runs: held-out accuracy, log p(answer), reward, length of
/// rationales and share of guesses, over training time or what else is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  latrod plot latro.jsonl sft.jsonl --label LaTRO --label SFT \
                        --title chain_sum --out curve.svg")]
pub struct Args {
    /// Metrics files that `latrod train` wrote, one for each run
    #[arg(required = true, value_name = "METRICS.jsonl")]
    metrics: Vec<PathBuf>,
    /// Where to write the picture, an SVG file
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
    /// Name of a run in the legend; once for each file, in their order [default: the file's name]
    #[arg(long, value_name = "NAME")]
    label: Vec<String>,
    /// What the curves run over: training time, the tokens sampled so far, or steps
    #[arg(long, value_parser = choice::<Over>(), default_value = "time")]
    over: Over,
    /// Title of the picture
    #[arg(long)]
    title: Option<String>,
}

/// Reads the runs and writes the picture.
///
/// # Errors
/// A usage error for a metrics file that is missing or broken and for too few labels; a failure if
/// the picture cannot be written.
pub fn run(args: Args) -> Result<(), CliError> {
    let labels = labels(&args)?;
    let runs = args.metrics.iter().zip(&labels).map(|(path, label)| read(path, args.over, label));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    let svg = curve::draw(&runs, args.over, args.title.as_deref()).map_err(failed)?;
    std::fs::write(&args.out, svg).map_err(|e| {
        CliError::Failed(format!("the picture cannot be written to {}: {e}", args.out.display()))
    })
}

/// The given labels, or the files' names, with their folders where names alone don't differ.
fn labels(args: &Args) -> Result<Vec<String>, CliError> {
    let (files, given) = (args.metrics.len(), args.label.len());
    if given == files {
        return Ok(args.label.clone());
    }
    if given > 0 {
        return Err(CliError::Usage(format!(
            "{given} --label for {files} metrics files: give one for each file, or none"
        )));
    }
    let stem = |path: &PathBuf| {
        path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    let stems: Vec<String> = args.metrics.iter().map(stem).collect();
    let differ = stems.iter().enumerate().all(|(i, name)| !stems[..i].contains(name));
    let whole = || args.metrics.iter().map(|path| path.display().to_string()).collect();
    Ok(if differ { stems } else { whole() })
}

fn read(path: &Path, over: Over, label: &str) -> Result<RunCurve, CliError> {
    let file = File::open(path).map_err(|e| {
        CliError::Usage(format!("the metrics file {} cannot be read: {e}", path.display()))
    })?;
    let name = path.display().to_string();
    let run = RunCurve::read(&name, over, BufReader::new(file));
    let run = run.map_err(|e| CliError::Usage(e.to_string()))?;
    Ok(RunCurve { label: label.into(), ..run })
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn failed(error: curve::CurveError) -> CliError {
    CliError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latro::metrics::{MetricLine, healthy_step};

    fn args(metrics: &[&Path], out: &Path, label: &[&str]) -> Args {
        Args {
            metrics: metrics.iter().map(|p| p.to_path_buf()).collect(),
            out: out.into(),
            label: label.iter().map(|l| (*l).to_string()).collect(),
            over: Over::Time,
            title: None,
        }
    }

    #[test]
    fn draws_files_and_names_what_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad, out) = (
            folder.path().join("good.jsonl"),
            folder.path().join("bad.jsonl"),
            folder.path().join("curve.svg"),
        );
        let line = serde_json::to_string(&MetricLine::Step(healthy_step(1))).unwrap();
        std::fs::write(&good, format!("{line}\n")).unwrap();
        std::fs::write(&bad, format!("{line}\n{{\"kind\":\n")).unwrap();

        run(args(&[&good], &out, &[])).unwrap();
        let broken = run(args(&[&bad], &out, &[])).unwrap_err();
        let missing = run(args(&[&folder.path().join("none")], &out, &[])).unwrap_err();
        let unwritable = run(args(&[&good], folder.path(), &[])).unwrap_err();

        assert!(std::fs::read_to_string(&out).unwrap().contains(">\ngood\n<"));
        assert!(broken.to_string().contains("line 2"), "{broken}");
        assert_eq!([&broken, &missing, &unwritable].map(CliError::exit_code), [64, 64, 1]);
    }

    #[test]
    fn labels_come_from_files_unless_all_are_given() {
        let (a, b, c) = (Path::new("x/run.jsonl"), Path::new("y/run.jsonl"), Path::new("z.jsonl"));
        let out = Path::new("o");

        assert_eq!(labels(&args(&[a, c], out, &[])).unwrap(), ["run", "z"]);
        assert_eq!(labels(&args(&[a, b], out, &[])).unwrap(), ["x/run.jsonl", "y/run.jsonl"]);
        assert_eq!(labels(&args(&[a, b], out, &["A", "B"])).unwrap(), ["A", "B"]);
        assert_eq!(labels(&args(&[a, b], out, &["A"])).unwrap_err().exit_code(), 64);
    }
}
