//! Conversations: the last question of the user and the assistant's answer to it.
//!
//! A lone question is asked as written, after the system's text if there is one (an empty line
//! between them). If there were earlier messages, all of them come first, each message after "User: " or
//! "Assistant: ": the last question may make no sense without it. Other roles are refused.

use serde_json::Value;

use super::parse::{derived, text_of};
use super::{RejectReason, Task};

/// Longest conversation, in messages.
const MAX_MESSAGES: usize = 1000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    System,
    User,
    Assistant,
}

/// A task from a list of `{"role": …, "content": …}`, where `content` is a text or a list of parts
/// `{"type": "text", "text": …}`.
pub(super) fn task(messages: Value) -> Result<Task, RejectReason> {
    let wrong = |what| RejectReason::BadMessages { what };
    let Value::Array(list) = messages else { return Err(wrong("they are not a list")) };
    if list.len() > MAX_MESSAGES {
        return Err(wrong("there are more than 1000"));
    }
    let mut messages = list.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    let Some(asked) = messages.iter().rposition(|(role, _)| *role == Role::User) else {
        return Err(wrong("none is from the user"));
    };
    if messages.get(asked + 1).map(|(role, _)| *role) != Some(Role::Assistant) {
        return Err(wrong("the user's last one is not followed by an answer from the assistant"));
    }
    let (_, answer) = messages.swap_remove(asked + 1);
    messages.truncate(asked + 1);
    let dialog = messages.iter().filter(|(role, _)| *role != Role::System).count() > 1;
    let texts = messages.into_iter().map(|(role, text)| match role {
        Role::User if dialog => format!("User: {text}"),
        Role::Assistant if dialog => format!("Assistant: {text}"),
        _ => text,
    });
    let question = texts.collect::<Vec<_>>().join("\n\n");
    Ok(derived(question, &answer))
}

fn message(value: Value) -> Result<(Role, String), RejectReason> {
    let Value::Object(mut message) = value else {
        return Err(RejectReason::BadMessages { what: "one is not an object" });
    };
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            let what = "one has a role other than system, user or assistant";
            return Err(RejectReason::BadMessages { what });
        }
    };
    let content = match message.shift_remove("content") {
        Some(Value::Array(parts)) => {
            let texts = parts.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
            Some(Value::String(texts.join("\n")))
        }
        other => other,
    };
    Ok((role, text_of(content, "content")?))
}

fn part(value: Value) -> Result<String, RejectReason> {
    match value {
        Value::Object(mut part) if part.get("type").is_some_and(|kind| kind == "text") => {
            text_of(part.shift_remove("text"), "text")
        }
        _ => Err(RejectReason::BadMessages { what: "one holds something other than text" }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::data::parse::parse_line;
    use crate::data::{RejectReason as R, Task};

    fn parse(messages: &Value) -> Result<Task, R> {
        parse_line(json!({ "messages": messages }).to_string().as_bytes()).unwrap()
    }

    #[track_caller]
    fn assert_task(messages: &Value, question: &str, answer: &str) {
        let task = Task::new(question.into(), answer.into());
        assert_eq!(parse(messages), Ok(task), "{messages}");
    }

    #[test]
    fn a_lone_question_is_asked_as_it_stands() {
        let user = json!({"role": "user", "content": " 1+1? "});
        let parts = json!({"role": "user", "content": [{"type": "text", "text": "1+1?"}]});
        let assistant = json!({"role": "assistant", "content": "2"});
        let system = json!({"role": "system", "content": "You count."});

        assert_task(&json!([user, assistant]), "1+1?", "2");
        assert_task(&json!([parts, assistant]), "1+1?", "2");
        assert_task(&json!([system, user, assistant]), "You count.\n\n1+1?", "2");
    }

    #[test]
    fn a_later_question_brings_what_was_said_before() {
        let messages = json!([
            {"role": "system", "content": "You count."},
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": "And one more?"},
            {"role": "assistant", "content": "That is 2 + 1.\n#### 3"},
            {"role": "assistant", "content": "ignored"},
        ]);

        let question = "You count.\n\nUser: 1+1?\n\nAssistant: 2\n\nUser: And one more?";
        let task = Task::new(question.into(), "3".into());
        let rationale = Some("That is 2 + 1.".into());
        assert_eq!(parse(&messages), Ok(Task { rationale, ..task }));
    }

    #[test]
    fn unusable_conversations_have_their_reasons() {
        let user = json!({"role": "user", "content": "q"});
        let cases = [
            (json!("text"), "they are not a list"),
            (json!([]), "none is from the user"),
            (json!([1]), "one is not an object"),
            (json!([user]), "the user's last one is not followed by an answer from the assistant"),
            (
                json!([user, user]),
                "the user's last one is not followed by an answer from the assistant",
            ),
            (
                json!([user, {"role": "tool", "content": "x"}]),
                "one has a role other than system, user or assistant",
            ),
            (
                json!([{"role": "user", "content": [{"type": "image_url"}]}]),
                "one holds something other than text",
            ),
            (json!(vec![user.clone(); 1001]), "there are more than 1000"),
        ];
        for (messages, what) in cases {
            assert_eq!(parse(&messages), Err(R::BadMessages { what }));
        }
        let empty = json!([user, {"role": "assistant", "content": ""}]);
        assert_eq!(parse(&empty), Err(R::EmptyField { field: "content" }));
    }
}
