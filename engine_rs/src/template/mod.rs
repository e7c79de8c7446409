//! Renders chat templates the way `transformers` does, within limits of work, depth and output.
//!
//! Templates come from model files and are not trusted: they see only what they are given, and a template that
//! runs for ever, nests without end or prints without end is stopped.

mod clock;
mod expansion;
mod json;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

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
/// The compiler recurses for each link of a chain such as `a.a.a` or `1+1+1`.
const STACK_PER_SOURCE_BYTE: usize = 4 << 10;

/// How much a template may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the template itself.
    pub source: usize,
    /// Bytes of the rendered text.
    pub output: usize,
    /// Instructions, and 64 bytes of data each.
    pub fuel: u64,
    /// Time of one rendering.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { source: 1 << 18, output: 16 << 20, fuel: 2_000_000, time: Duration::from_secs(10) }
    }
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    limits: Limits,
    /// A rendering ran out of time. It cannot be ended, so there is never a second one.
    stuck: AtomicBool,
}

impl ChatTemplate {
    /// Compiles a template. One that does not parse is `gguf_unsupported`: it came with the model.
    pub fn compile(source: &str, limits: Limits) -> Result<Self> {
        let unsupported = |reason: String| EngineError::GgufUnsupported(format!("the chat template: {reason}"));
        if source.len() > limits.source {
            return Err(unsupported(format!("{} bytes are more than {}", source.len(), limits.source)));
        }
        let stack = (1 << 20) + source.len() * STACK_PER_SOURCE_BYTE;
        let environment = thread::scope(|scope| {
            let worker = thread::Builder::new().name("template".into()).stack_size(stack);
            let worker =
                worker.spawn_scoped(scope, || environment(source, limits.fuel)).map_err(|error| error.to_string())?;
            worker.join().map_err(|_| "it broke the template engine".to_owned())?.map_err(|error| describe(&error))
        });
        Ok(Self { environment: Arc::new(environment.map_err(unsupported)?), limits, stuck: AtomicBool::new(false) })
    }

    /// Renders the template over `context`, an object that holds `messages`, `add_generation_prompt` and the like.
    /// What goes wrong here is blamed on the `messages`: they are what differs from call to call.
    pub fn render(&self, context: &serde_json::Value) -> Result<String> {
        let blame = |message: String| EngineError::InvalidParameter { param: "messages", message };
        let too_slow = || blame(format!("the chat template takes longer than {:?}", self.limits.time));
        if self.stuck.load(Ordering::Relaxed) {
            return Err(too_slow());
        }
        let (environment, context, limit) = (Arc::clone(&self.environment), context.clone(), self.limits.output);
        let (sender, receiver) = mpsc::sync_channel(1);
        let worker = thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
        let render = move || _ = sender.send(render_here(&environment, &context, limit));
        worker.spawn(render).map_err(|error| blame(error.to_string()))?;
        match receiver.recv_timeout(self.limits.time) {
            Ok(rendered) => rendered.map_err(blame),
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.store(true, Ordering::Relaxed);
                Err(too_slow())
            }
            Err(RecvTimeoutError::Disconnected) => Err(blame("the chat template broke the template engine".into())),
        }
    }
}

fn environment(source: &str, fuel: u64) -> std::result::Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_fuel(Some(fuel));
    expansion::guard(&mut environment);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", clock::strftime_now);
    environment.add_template_owned(NAME, without_generation_tags(source))?;
    Ok(environment)
}

/// Errors hold values, which may be nested too deeply to be dropped on another stack: only their text leaves.
fn render_here(
    environment: &Environment<'static>,
    context: &serde_json::Value,
    limit: usize,
) -> std::result::Result<String, String> {
    let mut output = Output { bytes: Vec::new(), limit };
    let context = Value::from(Serde(context));
    let template = environment.get_template(NAME).map_err(|error| describe(&error))?;
    template.render_captured_to(context, &mut output).map_err(|error| describe(&error))?;
    Ok(String::from_utf8_lossy(&output.bytes).into_owned())
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
#[allow(clippy::needless_pass_by_value, reason = "the template engine hands it over by value")]
fn raise_exception(state: &State, message: Value) -> std::result::Result<Value, Error> {
    expansion::charge(state, std::slice::from_ref(&message), 0)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
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
