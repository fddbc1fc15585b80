//! A comparison on disk: every piece is saved as it is done, so that a killed one resumes.
//!
//! The file is JSON lines: first what is compared, by hashes, then a line for each piece. A file
//! about anything else is started over. It holds only numbers, no text of a task.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::kernels::Compute;
use crate::promotion::compare::{Comparison, Done, Piece};
use crate::promotion::evaluate::EvalSettings;
use crate::promotion::forget;
use crate::promotion::forget::GeneralText;
use crate::promotion::gate::Paired;
use crate::session::SessionError;
use crate::store::durable::{create_folder, open_regular};
use crate::store::json::hex;
use crate::store::{JsonLines, StoreError, Sync, load_json, save_json};

/// The largest file of general prompts that is read, in bytes.
const MAX_GENERAL_BYTES: u64 = 4 << 20;
/// The most of a kept comparison that is read back, in bytes: half a million answers.
const MAX_KEPT_BYTES: u64 = 64 << 20;

/// What is compared, by the SHA-256 of files, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// Of the model.
    pub base: String,
    /// Of the active adapter's weights; `None` for the base model.
    pub baseline: Option<String>,
    /// Of the candidate's weights.
    pub candidate: String,
}

/// The first line of the file: all that decides the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ComparisonIdentity {
    base_sha256: String,
    baseline_sha256: Option<String>,
    candidate_sha256: String,
    compute: Compute,
    settings: EvalSettings,
    questions: usize,
    /// Over the questions' identities, in order.
    questions_sha256: String,
    /// Over the tokens of the general prompts.
    texts_sha256: String,
    /// The program's version: another may compute other numbers.
    latrod: String,
}

impl ComparisonIdentity {
    fn of(comparison: &Comparison<'_, impl Engine>, hashes: &Hashes) -> Self {
        let mut questions = Sha256::new();
        comparison.questions.iter().for_each(|task| questions.update(task.id().0));
        let mut texts = Sha256::new();
        for text in comparison.texts {
            texts.update((text.ids().len() as u64).to_le_bytes());
            texts.update((text.predicted() as u64).to_le_bytes());
            text.ids().iter().for_each(|id| texts.update(id.to_le_bytes()));
        }
        Self {
            base_sha256: hashes.base.clone(),
            baseline_sha256: hashes.baseline.clone(),
            candidate_sha256: hashes.candidate.clone(),
            compute: comparison.model.compute(),
            settings: comparison.settings,
            questions: comparison.questions.len(),
            questions_sha256: hex(&questions.finalize()),
            texts_sha256: hex(&texts.finalize()),
            latrod: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Compares, or resumes where an earlier process was stopped; the result is the same. `kept` is the
/// file of results so far; `watch` is told how much is done of how much, counted in questions (of
/// both sides) and general prompts.
///
/// # Errors
/// [`SessionError`], above all an interrupt; what is done is kept.
pub fn compare(
    comparison: &Comparison<'_, impl Engine>,
    hashes: &Hashes,
    kept: &Path,
    mut watch: impl FnMut(u64, u64),
) -> Result<Paired, SessionError> {
    let identity = ComparisonIdentity::of(comparison, hashes);
    let pieces = comparison.pieces();
    if let Some(dir) = kept.parent() {
        create_folder(dir)?;
    }
    let mut results = read_kept(kept, &identity, comparison, &pieces)?;
    let keep = results.as_ref().map_or(0, |results| 1 + results.len());
    let mut lines = JsonLines::open_truncated(kept, keep)?;
    if results.is_none() {
        lines.append(&identity, Sync::Disk)?;
    }
    let results = results.get_or_insert_default();
    let of = pieces.iter().map(weight).sum();
    let mut done: u64 = pieces[..results.len()].iter().map(weight).sum();
    watch(done, of);
    for piece in &pieces[results.len()..] {
        let result = comparison.compute(piece)?;
        lines.append(&result, Sync::Disk)?;
        results.push(result);
        done += weight(piece);
        watch(done, of);
    }
    Ok(comparison.paired(results))
}

fn weight(piece: &Piece) -> u64 {
    match piece {
        Piece::Questions(_, range) => range.len() as u64,
        Piece::Text(_) => 1,
    }
}

/// The results in the file, as far as they are about this comparison and whole; `None` if they are
/// about another one or there is no file.
fn read_kept(
    path: &Path,
    identity: &ComparisonIdentity,
    comparison: &Comparison<'_, impl Engine>,
    pieces: &[Piece],
) -> Result<Option<Vec<Done>>, StoreError> {
    if !path.try_exists().map_err(StoreError::io("read", path))? {
        return Ok(None);
    }
    let (file, _) = open_regular(path)?;
    let mut reader = BufReader::new(file.take(MAX_KEPT_BYTES));
    let mut next = || -> Result<Option<Vec<u8>>, StoreError> {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).map_err(StoreError::io("read", path))?;
        // A line without its newline was being written when the process was killed.
        Ok((line.pop() == Some(b'\n')).then_some(line))
    };
    let first = next()?.and_then(|line| serde_json::from_slice::<ComparisonIdentity>(&line).ok());
    if first.as_ref() != Some(identity) {
        return Ok(None);
    }
    let mut results = Vec::new();
    for piece in pieces {
        let done = next()?.and_then(|line| serde_json::from_slice(&line).ok());
        match done {
            Some(done) if comparison.fits(piece, &done) => results.push(done),
            _ => break,
        }
    }
    Ok(Some(results))
}

/// Writes a comparison's result, durably.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, paired: &Paired) -> Result<(), StoreError> {
    save_json(path, paired)
}

/// Reads a comparison's result.
///
/// # Errors
/// If there is none, or it is damaged.
pub fn read(path: &Path) -> Result<Paired, StoreError> {
    load_json(path)
}

/// The general prompts in a file, or the built-in ones for an empty path.
///
/// # Errors
/// [`StoreError`] if it cannot be read, [`SessionError::GeneralPrompts`] if a line is none.
pub fn general_texts(path: &Path) -> Result<Vec<GeneralText>, SessionError> {
    if path.as_os_str().is_empty() {
        return Ok(forget::built_in());
    }
    let wrong = |line, reason| SessionError::GeneralPrompts { path: path.to_owned(), line, reason };
    let (file, length) = open_regular(path)?;
    if length > MAX_GENERAL_BYTES {
        return Err(wrong(0, format!("it has {length} bytes, at most {MAX_GENERAL_BYTES}")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_GENERAL_BYTES).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(0, "it is not UTF-8".into()))?;
    forget::parse(&text).map_err(|(line, reason)| wrong(line, reason))
}

#[cfg(test)]
mod tests;
