//! Renders chat templates the way `transformers` does, within limits of work, depth and output.
//!
//! Templates come from model files and are not trusted: they see only what they are given, and a template that
//! runs for ever, nests without end or prints without end is stopped.

mod clock;
mod json;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::error::{EngineError, Result};

/// Used for files without a template whose vocabulary has `<|im_start|>`.
pub const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
     {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/// Used for all other files without a template: one `role: content` line per message.
pub const PLAIN: &str = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}\
     {% if add_generation_prompt %}assistant:{% endif %}";

const NAME: &str = "chat";
/// Recursion inside the template engine: macros that call themselves, mostly.
const MAX_RECURSION: usize = 100;
/// Values nested in a loop are dropped recursively; what [`Limits::fuel`] can buy of that fits into this stack.
const STACK_BYTES: usize = 256 << 20;

/// How much a template may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the template itself.
    pub source: usize,
    /// Bytes of the rendered text.
    pub output: usize,
    /// Instructions, and 64 bytes of data each.
    pub fuel: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { source: 1 << 20, output: 16 << 20, fuel: 2_000_000 }
    }
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    limits: Limits,
}

impl ChatTemplate {
    /// Compiles a template. One that does not parse is `gguf_unsupported`: it came with the model.
    pub fn compile(source: &str, limits: Limits) -> Result<Self> {
        if source.len() > limits.source {
            return Err(EngineError::GgufUnsupported(format!("a chat template of {} bytes", source.len())));
        }
        let mut environment = Environment::new();
        let refuse = |error: &Error| EngineError::GgufUnsupported(format!("the chat template: {}", describe(error)));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| refuse(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_fuel(Some(limits.fuel));
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", clock::strftime_now);
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(|error| refuse(&error))?;
        Ok(Self { environment, limits })
    }

    /// Renders the template over `context`, an object that holds `messages`, `add_generation_prompt` and the like.
    /// What goes wrong here is blamed on the `messages`: they are what differs from call to call.
    pub fn render(&self, context: &serde_json::Value) -> Result<String> {
        let blame = |message: String| EngineError::InvalidParameter { param: "messages", message };
        let render = || self.render_here(context);
        thread::scope(|scope| {
            let worker = thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
            let worker = worker.spawn_scoped(scope, render).map_err(|error| blame(error.to_string()))?;
            worker.join().unwrap_or_else(|_| Err(blame("the chat template broke the template engine".into())))
        })
    }

    fn render_here(&self, context: &serde_json::Value) -> Result<String> {
        let blame = |error: &Error| EngineError::InvalidParameter { param: "messages", message: describe(error) };
        let template = self.environment.get_template(NAME).map_err(|error| blame(&error))?;
        let mut output = Output { bytes: Vec::new(), limit: self.limits.output };
        let context = Value::from(Serde(context));
        template.render_captured_to(context, &mut output).map_err(|error| blame(&error))?;
        Ok(String::from_utf8_lossy(&output.bytes).into_owned())
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Compiles and renders a template once.
pub fn render(template: &str, context: &serde_json::Value, limits: Limits) -> Result<String> {
    ChatTemplate::compile(template, limits)?.render(context)
}

struct Output {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other(format!("the prompt is longer than {} bytes", self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What templates call when they are given messages they cannot put into words.
fn raise_exception(message: String) -> std::result::Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The cause in one line, without the debugging pages of the template engine.
fn describe(error: &Error) -> String {
    let mut text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    if let Some(line) = error.line() {
        _ = write!(text, " (line {line} of the chat template)");
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// Training tools mark the assistant's words with `{% generation %}`; for prompts the tag means nothing.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start..].find("%}").map(|end| end + 2) else { break };
        let tag = &rest[start..start + len];
        let word = tag[2..len - 2].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        out.push_str(&rest[..start]);
        match word {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[start + len..];
    }
    out.push_str(rest);
    out
}
