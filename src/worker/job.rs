//! One job, from its message to the message that ends it.

use std::path::Path;

use log::{info, warn};

use super::failure::Halt;
use super::load::Model;
use super::protocol::{Began, CompareJob, Failure, FailureKind, FromWorker, TrainJob};
use crate::data::{Task, TaskLimits, read_tasks};
use crate::engine::Engine;
use crate::engine::interrupt::Interrupt;
use crate::latro::settings::{Method, TrainSettings};
use crate::promotion::compare::Comparison;
use crate::promotion::evaluate::EvalSettings;
use crate::promotion::forget::GeneralTokens;
use crate::session::comparison::{self, Hashes, general_texts};
use crate::session::{Folder, Questions, Session, SessionBuilder, StepOutcome};
use crate::store::adapter::WEIGHTS_FILE;
use crate::store::versions::{BaseModel, write_gguf};
use crate::store::{AdapterManifest, AdapterShape, file_sha256, read_peft};

/// Trains until the run is done. Everything is saved step by step, so that an interrupted run, or
/// one whose process was killed, resumes with the same numbers.
///
/// # Errors
/// [`Halt`]: interrupted, given up by the sentinels, or failed.
pub fn train(
    model: &mut Model<impl Engine>,
    job: &TrainJob,
    interrupt: &Interrupt,
    say: impl Fn(FromWorker),
) -> Result<FromWorker, Halt> {
    let settings = checked(&job.settings)?;
    model.check_unchanged()?;
    model.prompter.reword(settings.wording()).map_err(Failure::from)?;
    let questions = questions(model, job, &settings, interrupt)?;
    let needs = model.needs(&settings, &questions);
    let running = Folder::identity_of_run_in(&job.dir).map_err(Failure::from)?;
    let running = running.map(|run| run.batch);
    let (batch, plan) = match running {
        Some(batch) => (batch, needs.fit_exactly(batch, model.limit)?),
        None => needs.fit(model.batch, model.limit)?,
    };
    let tasks = &questions.tasks;
    let builder = SessionBuilder {
        engine: &model.engine,
        prompter: &model.prompter,
        settings: &settings,
        tasks,
        batch,
        model: model.path(),
        model_sha256: &model.sha256,
        start: job.start.as_deref(),
        interrupt,
    };
    let (settings, thinking) = builder.decided(&job.dir)?;
    if let Some(thinking) = thinking {
        info!("{}", thinking.sentence());
    }
    let mut session = SessionBuilder { settings: &settings, ..builder }.open(&job.dir)?;
    say(FromWorker::Began(Began {
        step: session.steps_done(),
        tasks: tasks.len(),
        left_out: questions.left_out(),
        batch,
        plan_mib: plan.total.div_ceil(1 << 20),
    }));
    let until = job.until_step.unwrap_or(u64::MAX).min(settings.steps);
    learn(&mut session, until, interrupt, say)?;
    Ok(FromWorker::Trained { steps: session.steps_done() })
}

/// Does the steps up to and with `until`, and reports each.
fn learn(
    session: &mut Session<'_, impl Engine>,
    until: u64,
    interrupt: &Interrupt,
    say: impl Fn(FromWorker),
) -> Result<(), Halt> {
    while session.steps_done() < until {
        interrupt.check()?;
        match session.step(|_| {})? {
            StepOutcome::Learned(metrics) => say(FromWorker::Step(metrics)),
            StepOutcome::SteppedBack { trip, metrics } => {
                if let Some(metrics) = metrics {
                    say(FromWorker::Step(metrics));
                }
                say(FromWorker::Sentinel { step: session.steps_done(), trip });
            }
        }
    }
    Ok(())
}

/// The settings, if all of them can be used, in the one order that means the same run.
fn checked(settings: &TrainSettings) -> Result<TrainSettings, Failure> {
    settings.validate().map_err(|e| Failure::new(FailureKind::Settings, e.join("; ")))?;
    let mut settings = settings.clone();
    settings.target_modules.sort_unstable();
    Ok(settings)
}

/// The tasks of a run that can be put to the model.
fn questions(
    model: &Model<impl Engine>,
    job: &TrainJob,
    settings: &TrainSettings,
    interrupt: &Interrupt,
) -> Result<Questions, Halt> {
    fitting(model, read(&job.tasks)?, settings.max_new_tokens, interrupt)
}

fn read(path: &Path) -> Result<Vec<Task>, Failure> {
    let set = read_tasks(path, &TaskLimits::default())?;
    if set.rejected_count > 0 {
        warn!("{} lines of {} cannot be used", set.rejected_count, path.display());
    }
    Ok(set.tasks)
}

/// Those that can be put to the model, with room for so long a response.
fn fitting(
    model: &Model<impl Engine>,
    tasks: Vec<Task>,
    new_tokens: usize,
    interrupt: &Interrupt,
) -> Result<Questions, Halt> {
    let context = model.engine.spec().context_length;
    let questions = Questions::choose(&model.prompter, tasks, new_tokens, context, interrupt)?;
    if let Some(sentence) = questions.left_out_sentence() {
        warn!("{sentence}");
    }
    Ok(questions)
}

/// Evaluates a candidate against what it would replace, and writes the result to a file. What is
/// done of it is kept beside that file, so that a stopped comparison resumes.
///
/// # Errors
/// [`Halt`], as [`train`].
pub fn compare<E: Engine>(
    model: &mut Model<E>,
    job: &CompareJob,
    interrupt: &Interrupt,
    say: impl Fn(FromWorker),
) -> Result<FromWorker, Halt> {
    let settings = checked(&job.settings)?;
    model.check_unchanged()?;
    model.prompter.reword(settings.wording()).map_err(Failure::from)?;
    let questions = fitting(model, asked(job)?, settings.max_new_tokens, interrupt)?;
    let texts = texts(model, job)?;
    let (baseline, baseline_sha256) =
        job.baseline.as_deref().map(|d| adapter(model, d)).transpose()?.unzip();
    let (candidate, candidate_sha256) = adapter(model, &job.candidate)?;
    let needs = model.needs(&settings, &questions);
    let (batch, plan) = needs.fit_questions(model.batch.min(questions.tasks.len()), model.limit)?;
    // Method `auto` was decided when the candidate's run began.
    let made = AdapterManifest::read(&job.candidate).map_err(Failure::from)?;
    let method = made.and_then(|manifest| manifest.training).map(|training| training.method);
    let think = method.map_or(settings.method.thinks(), |method| Method::word_thinks(&method));
    let comparison = Comparison {
        model: &model.engine,
        prompter: &model.prompter,
        baseline: baseline.as_ref(),
        candidate: &candidate,
        questions: &questions.tasks,
        texts: &texts,
        settings: EvalSettings { think, ..EvalSettings::of_run(&settings, batch) },
        interrupt,
    };
    let hashes = Hashes {
        base: model.sha256.clone(),
        baseline: baseline_sha256,
        candidate: candidate_sha256,
    };
    say(FromWorker::Began(Began {
        step: 0,
        tasks: questions.tasks.len(),
        left_out: questions.left_out(),
        batch,
        plan_mib: plan.total.div_ceil(1 << 20),
    }));
    let kept = job.out.with_extension("jsonl");
    let paired = comparison::compare(&comparison, &hashes, &kept, |done, of| {
        say(FromWorker::Progress { done, of });
    })?;
    if let Some(out) = &job.gguf {
        let base = BaseModel::from(model.engine.spec());
        write_gguf(&base, &job.candidate, out).map_err(Failure::from)?;
    }
    comparison::write(&job.out, &paired).map_err(Failure::from)?;
    Ok(FromWorker::Compared { path: job.out.clone() })
}

/// The questions of a comparison.
fn asked(job: &CompareJob) -> Result<Vec<Task>, Failure> {
    let mut tasks = read(&job.tasks)?;
    if job.max_questions > 0 {
        tasks.truncate(job.max_questions);
    }
    Ok(tasks)
}

/// The general texts of a comparison as tokens.
fn texts(model: &Model<impl Engine>, job: &CompareJob) -> Result<Vec<GeneralTokens>, Halt> {
    let general = job.general_prompts.as_deref().unwrap_or(Path::new(""));
    let context = model.engine.spec().context_length;
    let mut texts = Vec::new();
    for text in &general_texts(general)? {
        let tokens = GeneralTokens::of(text, &model.prompter, context);
        texts.extend(tokens.map_err(|e| Failure::new(FailureKind::Settings, e))?);
    }
    Ok(texts)
}

/// An adapter for this model, and the SHA-256 of its weights.
fn adapter<E: Engine>(model: &Model<E>, dir: &Path) -> Result<(E::Adapter, String), Failure> {
    AdapterManifest::check(dir, &model.sha256)?;
    let spec = model.engine.spec();
    let (config, tensors) = read_peft(dir, &AdapterShape::from(spec))?;
    let scale = config.scale() as f32;
    let adapter = model.engine.adapter(&tensors, scale)?;
    Ok((adapter, file_sha256(&dir.join(WEIGHTS_FILE))?))
}
