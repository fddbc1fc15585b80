//! Tasks: questions with known answers.
