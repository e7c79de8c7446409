//! Turns what a request brings into tokens, on a thread of its own: long prompts must delay no step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use serde_json::{Value, json};

use super::inbox::{Inbox, Mail, Ticket};
use super::types::{Prompt, Request, RequestId};
use crate::error::{EngineError, Result};
use crate::sampler::SamplingParams;
use crate::template::{CHATML, ChatTemplate, Limits, PLAIN};
use crate::vocab::Vocab;

/// A request on its way to the decode thread.
pub(super) struct Submission {
    pub id: RequestId,
    pub ticket: Arc<Ticket>,
    pub request: Request,
    pub submitted: Instant,
}

/// A request whose prompt is tokens.
pub(super) struct Prepared {
    pub id: RequestId,
    pub ticket: Arc<Ticket>,
    pub tokens: Vec<i32>,
    /// Cut to the end of the context.
    pub max_tokens: u32,
    pub stop: Vec<String>,
    pub sampling: SamplingParams,
    pub logprobs: Option<u32>,
    pub return_prompt: bool,
    pub principal: String,
    pub submitted: Instant,
}

/// Words and tokens of one model.
pub(super) struct Writer {
    vocab: Vocab,
    /// A template that does not compile harms only the requests that need it.
    template: Result<ChatTemplate>,
    bos: String,
    eos: String,
    context: usize,
}

impl Writer {
    /// `template` is the model's own, if it has one; `context` the tokens one request may use.
    pub(super) fn new(vocab: Vocab, template: Option<&str>, context: u32) -> Self {
        let is_chatml = || vocab.tokenize("<|im_start|>", false, true).is_ok_and(|tokens| tokens.len() == 1);
        let source = template.unwrap_or_else(|| if is_chatml() { CHATML } else { PLAIN });
        let text = |token: Option<i32>| {
            let mut bytes = Vec::new();
            if let Some(token) = token {
                vocab.piece(token, true, &mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self {
            template: ChatTemplate::compile(source, Limits::default()),
            bos: text(vocab.bos()),
            eos: text(vocab.eos()),
            vocab,
            context: context as usize,
        }
    }

    /// The text that the chat template makes of `messages`, a JSON array of objects.
    pub(super) fn render(&self, messages: &Value) -> Result<String> {
        let complete = messages.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_object));
        if !complete {
            let message = "messages must be an array of at least one object".into();
            return Err(EngineError::InvalidParameter { param: "messages", message });
        }
        self.template.as_ref().map_err(Clone::clone)?.render(&json!({
            "messages": messages,
            "add_generation_prompt": true,
            "bos_token": self.bos,
            "eos_token": self.eos,
            "tools": null,
            "documents": null,
        }))
    }

    fn chat_tokens(&self, messages: &Value) -> Result<Vec<i32>> {
        let text = self.render(messages)?;
        // Most templates write the start token that the tokenizer would add once more.
        let doubled = !self.bos.is_empty() && self.vocab.adds_bos();
        let text = if doubled { text.strip_prefix(&self.bos).unwrap_or(&text) } else { &text };
        self.vocab.tokenize(text, true, true)
    }

    /// Tokens that a conversation may have so that an answer of `max_tokens` follows; a long answer may have to make
    /// do with a quarter of the context.
    fn history_limit(&self, max_tokens: Option<u32>) -> usize {
        let quarter = self.context / 4;
        self.context - max_tokens.map_or(quarter, |wish| quarter.min(wish as usize)).max(1)
    }

    /// The tokens of the longest end of a conversation that `limit` allows, system messages first.
    fn newest_turns(&self, messages: &Value, limit: usize) -> Result<Vec<i32>> {
        let whole = self.chat_tokens(messages)?;
        let all = messages.as_array().map_or(&[][..], Vec::as_slice);
        let (system, turns): (Vec<_>, Vec<_>) = all.iter().partition(|message| has_role(message, "system"));
        // Templates insist that a conversation starts with the user.
        let starts: Vec<usize> = (1..turns.len()).filter(|&index| has_role(turns[index], "user")).collect();
        if whole.len() <= limit || starts.is_empty() {
            return Ok(whole);
        }
        let tokens_from = |start: usize| {
            let kept: Vec<&Value> = system.iter().chain(&turns[start..]).copied().collect();
            self.chat_tokens(&json!(kept))
        };
        // The first start that fits, or else the last one.
        let (mut low, mut high) = (0, starts.len() - 1);
        while low < high {
            let middle = usize::midpoint(low, high);
            if tokens_from(starts[middle])?.len() <= limit {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        tokens_from(starts[low])
    }

    fn tokens(&self, prompt: Prompt, truncate: bool, max_tokens: Option<u32>) -> Result<Vec<i32>> {
        let tokens = match prompt {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Text(text) => self.vocab.tokenize(&text, true, true)?,
            Prompt::Messages(messages) if truncate => self.newest_turns(&messages, self.history_limit(max_tokens))?,
            Prompt::Messages(messages) => self.chat_tokens(&messages)?,
        };
        if tokens.is_empty() {
            return Err(EngineError::InvalidParameter { param: "prompt", message: "the prompt is empty".into() });
        }
        if tokens.len() >= self.context {
            return Err(EngineError::ContextLengthExceeded { prompt_tokens: tokens.len(), context: self.context });
        }
        Ok(tokens)
    }

    fn prepare(&self, submission: Submission) -> Result<Prepared> {
        let Submission { id, ticket, request, submitted } = submission;
        let tokens = self.tokens(request.prompt, request.truncate, request.max_tokens)?;
        let room = (self.context - tokens.len()) as u32;
        Ok(Prepared {
            id,
            ticket,
            max_tokens: request.max_tokens.map_or(room, |wish| wish.min(room)),
            tokens,
            stop: request.stop,
            sampling: request.sampling,
            logprobs: request.logprobs,
            return_prompt: request.return_prompt,
            principal: request.principal,
            submitted,
        })
    }
}

fn has_role(message: &Value, role: &str) -> bool {
    message.get("role").and_then(Value::as_str) == Some(role)
}

/// The prompt thread: runs until nobody can submit any more.
pub(super) fn run(writer: &Writer, submissions: &Receiver<Submission>, inbox: &Inbox) {
    for submission in submissions {
        let id = submission.id;
        if submission.ticket.is_cancelled() {
            inbox.post(Mail::Dropped(id));
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| writer.prepare(submission)));
        inbox.post(match outcome {
            Ok(Ok(prepared)) => Mail::Prepared(Box::new(prepared)),
            Ok(Err(error)) => Mail::Refused(id, error),
            Err(_) => Mail::Refused(id, EngineError::DecodeFailed("the prompt could not be prepared".into())),
        });
    }
}
