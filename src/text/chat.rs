//! The chat template of a model (`tokenizer.chat_template`): messages to prompt text.
//!
//! Templates are Jinja from outside: they run in minijinja, set up as transformers sets up Jinja,
//! with limits on source, work, memory, recursion and output. Knows nothing of tokens beyond the
//! text of BOS and EOS.

use jiff::Zoned;
use jiff::fmt::strtime;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;

use crate::gguf::{GgufError, GgufFile};
use crate::text::tokenizer::Tokenizer;

/// The longest template, in bytes. The longest known ones have 20 KiB.
const LONGEST_SOURCE: usize = 256 << 10;
/// The work of one rendering: instructions, and one for each 64 bytes that they make. Bounds the
/// memory to about 128 MiB.
const FUEL: u64 = 2_000_000;
/// Nested calls, loops and macros.
const RECURSION: usize = 100;
/// The longest rendered prompt, in bytes.
const LONGEST_OUTPUT: usize = 32 << 20;
/// The longest format of `strftime_now`, in bytes.
const LONGEST_FORMAT: usize = 256;

const NAME: &str = "chat_template";

/// What can be wrong with a chat template, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The metadata holds no string there.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The template is too long.
    #[error("the chat template has {found} bytes; at most {LONGEST_SOURCE} are accepted")]
    TooLong { found: usize },
    /// The template is not valid Jinja, or uses something that is not supported.
    #[error("the chat template cannot be compiled: {0}")]
    Compile(String),
    /// The template refused the messages or ran into a limit.
    #[error("the chat template cannot render the messages: {0}")]
    Render(String),
    /// The rendered prompt is too long.
    #[error("the chat template made {found} bytes; at most {LONGEST_OUTPUT} are accepted")]
    Output { found: usize },
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message that tells the model who it is.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".into(), content: content.into() }
    }

    /// A message of the user.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles a template; `bos` and `eos` are the texts of these tokens. `strftime_now` gives the
    /// time of this call ever after, so that one process renders the same prompt again.
    ///
    /// # Errors
    /// A template that is too long or no valid Jinja.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ChatError> {
        Self::at(source, bos, eos, Zoned::now())
    }

    /// The same with a given time for `strftime_now`.
    ///
    /// # Errors
    /// See [`ChatTemplate::new`].
    pub fn at(source: &str, bos: &str, eos: &str, now: Zoned) -> Result<Self, ChatError> {
        if source.len() > LONGEST_SOURCE {
            return Err(ChatError::TooLong { found: source.len() });
        }
        let compile = |e: Error| ChatError::Compile(told(&e));
        let mut environment = Environment::new();
        let mut syntax = environment.syntax().to_builder();
        let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build().map_err(compile)?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", move |format: &str| strftime(format, &now));
        environment.add_template_owned(NAME, without_generation_tags(source)?).map_err(compile)?;
        Ok(Self { environment, source: source.into(), bos: bos.into(), eos: eos.into() })
    }

    /// The template of a GGUF file, if it has one.
    ///
    /// # Errors
    /// See [`ChatTemplate::new`].
    pub fn from_gguf(file: &GgufFile, tokenizer: &Tokenizer) -> Result<Option<Self>, ChatError> {
        let Some(source) = file.metadata().opt_str("tokenizer.chat_template")? else {
            return Ok(None);
        };
        let text = |id: Option<u32>| id.map(|id| tokenizer.token_text(id)).unwrap_or_default();
        Self::new(source, &text(tokenizer.bos()), &text(tokenizer.eos())).map(Some)
    }

    /// The template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt text of messages; with `add_generation_prompt` it ends where the assistant's
    /// answer begins.
    ///
    /// # Errors
    /// What the template raises, or a limit that it runs into.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        let render = |e: Error| ChatError::Render(told(&e));
        let template = self.environment.get_template(NAME).map_err(render)?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| context! { role => m.role.as_str(), content => m.content.as_str() })
            .collect();
        let text = template
            .render(context! {
                messages,
                add_generation_prompt,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
                tools => (),
                documents => (),
            })
            .map_err(render)?;
        if text.len() > LONGEST_OUTPUT {
            return Err(ChatError::Output { found: text.len() });
        }
        Ok(text)
    }
}

/// Replaces `{% generation %}`, with which transformers marks what an assistant says, by a block
/// that changes nothing.
fn without_generation_tags(source: &str) -> Result<String, ChatError> {
    let tag = |name: &str, with: &str| {
        let regex = Regex::new(&format!(r"\{{%([-+]?)\s*{name}\s*([-+]?)%\}}"));
        regex
            .map(|r| (r, format!("{{%$1 {with} $2%}}")))
            .map_err(|e| ChatError::Compile(e.to_string()))
    };
    let (begin, with) = tag("generation", "if true")?;
    let (end, with_end) = tag("endgeneration", "endif")?;
    Ok(end.replace_all(&begin.replace_all(source, with), with_end).into_owned())
}

/// An error with its causes, in one line.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text.replace('\n', " ")
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

fn strftime(format: &str, now: &Zoned) -> Result<String, Error> {
    if format.len() > LONGEST_FORMAT {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "the format of strftime_now is too long",
        ));
    }
    strtime::format(format, now)
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
}

/// JSON as transformers' templates get it: Python's separators, and no escapes for HTML.
fn to_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    if options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson knows no ensure_ascii=true"));
    }
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    options.assert_all_used()?;
    let escaped =
        minijinja::filters::tojson(value, indent, Kwargs::from_iter::<[(&str, Value); 0]>([]))?;
    Ok(Value::from(without_html_escapes(escaped.as_str().unwrap_or_default())))
}

/// Undoes `\u003c`, `\u003e`, `\u0026` and `\u0027` in JSON text.
fn without_html_escapes(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let plain = match rest.get(..6) {
            Some("\\u003c") => Some('<'),
            Some("\\u003e") => Some('>'),
            Some("\\u0026") => Some('&'),
            Some("\\u0027") => Some('\''),
            _ => None,
        };
        let taken = if let Some(c) = plain {
            out.push(c);
            6
        } else {
            // The backslash and the character it escapes, which may be another backslash.
            let taken = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..taken]);
            taken
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template of SmolLM2-Instruct.
    const SMOLLM: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn render(source: &str, content: &str) -> Result<String, ChatError> {
        ChatTemplate::new(source, "<s>", "</s>")?.render(&[Message::user(content)], true)
    }

    fn refusal(source: &str) -> String {
        render(source, "hi").expect_err("it should be refused").to_string()
    }

    #[test]
    fn smollm_renders_as_in_transformers() {
        assert_eq!(
            render(SMOLLM, "What is 2 + 2?").unwrap(),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
             Face<|im_end|>\n<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn blocks_on_their_own_line_leave_no_trace() {
        let source = "{{ bos_token }}\n{% for m in messages %}\n  {% if true %}\n{{ m.content | trim }}{{ eos_token }}\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source, " a ").unwrap(), "<s>\na</s>\n");
    }

    #[test]
    fn what_templates_expect_of_python_is_there() {
        let content = |expression: &str| {
            render(
                &format!("{{% set c = messages[0]['content'] %}}{{{{ {expression} }}}}"),
                " A<b ",
            )
        };
        assert_eq!(content("c.strip().lower().split('<')[1]").unwrap(), "b");
        assert_eq!(content("c.strip() | tojson").unwrap(), "\"A<b\"");
        assert_eq!(
            content("{'a': [1, none], 'b': true} | tojson").unwrap(),
            r#"{"a": [1, null], "b": true}"#
        );
        assert_eq!(content(r"'\\u003c' | tojson").unwrap(), r#""\\u003c""#);
        assert_eq!(content("tools is none").unwrap(), "True");
        let marked = "a {%- generation -%} {{ messages[0].content }} {% endgeneration %}b";
        assert_eq!(render(marked, "x").unwrap(), "ax b");
        let looped =
            "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}";
        assert_eq!(render(looped, "").unwrap(), "01");
    }

    #[test]
    fn the_clock_can_be_set() {
        let now: Zoned = "2026-11-22T12:00:00+00:00[UTC]".parse().unwrap();
        let template = ChatTemplate::at("{{ strftime_now('%d %b %Y') }}", "", "", now).unwrap();

        assert_eq!(template.render(&[], false).unwrap(), "22 Nov 2026");
        assert!(refusal("{{ strftime_now('%!') }}").contains("strftime_now"));
    }

    #[test]
    fn what_a_template_raises_is_told() {
        assert!(refusal("{{ raise_exception('only two roles') }}").contains("only two roles"));
        assert!(refusal("{% for %}").contains("cannot be compiled"));
        assert!(refusal(&" ".repeat(LONGEST_SOURCE + 1)).contains("at most"));
    }

    #[test]
    fn no_template_can_hang_or_exhaust_the_memory() {
        for source in [
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{{ 'x' * 1000000000 }}",
            "{{ range(1000000000) | list | length }}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% for i in range(50) %}{{ 'x' * 1000000 }}{% endfor %}",
            "{{ '%1000000000d' | format(1) }}",
        ] {
            assert!(!refusal(source).is_empty(), "{source}");
        }
    }
}
