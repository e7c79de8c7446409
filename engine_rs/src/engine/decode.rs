//! The decode thread: owns the context, admits requests, plans steps and ends what is over.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inbox::{Inbox, Mail, Ticket};
use super::outbox::{Outbox, Place};
use super::pace::Pace;
use super::permit::Account;
use super::prompt::Prepared;
use super::slots::Slots;
use super::step::Entry;
use super::types::{Event, FinishReason, RequestId, Timings, Usage};
use crate::context::{Batch, Context};
use crate::error::EngineError;
use crate::sampler::{Sampler, SamplingParams};
use crate::scheduler::{Capacity, Plan, Running, Scheduler};
use crate::sequence::{Sequence, SequenceParams};
use crate::vocab::Vocab;

/// What the model brings to every request.
pub(super) struct ModelFacts {
    pub vocab: Vocab,
    /// End-of-generation tokens.
    pub end_tokens: Vec<i32>,
    /// Sampling that the file recommends.
    pub recommended: SamplingParams,
    /// A sequence without credit for this long is cancelled.
    pub stall_timeout: Duration,
    /// Compute threads while nobody else needs the processors.
    pub threads: u32,
}

/// A running request in its slot.
pub(super) struct Active {
    pub id: RequestId,
    pub ticket: Arc<Ticket>,
    pub slot: usize,
    pub sequence: Sequence,
    pub principal: String,
    /// Tokens at the beginning that were read in whole batches and alone.
    pub repeatable: usize,
    /// The prompt takes more than one step, so its progress is reported.
    pub in_chunks: bool,
    /// Where its last delta lies in the outbox.
    pub place: Option<Place>,
    /// Set when this step ended it.
    pub ended: Option<Result<FinishReason, EngineError>>,
}

/// A request that waits for a slot, and the position it was last told.
struct Waiting {
    prepared: Box<Prepared>,
    told: Option<u32>,
}

pub(super) struct DecodeLoop {
    pub(super) context: Context,
    pub(super) facts: ModelFacts,
    pub(super) outbox: Arc<Outbox>,
    pub(super) account: Account,
    pub(super) pace: Pace,
    /// Oldest first.
    pub(super) running: Vec<Active>,
    pub(super) slots: Slots,
    pub(super) plan: Plan,
    pub(super) batch: Batch,
    pub(super) entries: Vec<Entry>,
    pub(super) piece: Vec<u8>,
    /// Prompt tokens per second, a moving average.
    pub(super) prompt_rate: f64,
    pub(super) batch_size: usize,
    inbox: Arc<Inbox>,
    scheduler: Scheduler,
    waiting: HashMap<RequestId, Waiting>,
    /// Somebody came, went or moved up since the positions were last told.
    queue_changed: bool,
    mail: Vec<Mail>,
    views: Vec<Running>,
}

/// The decode thread. Whatever happens in it, every request ends and the process lives on.
pub(super) fn run(decode_loop: DecodeLoop) {
    let (inbox, outbox) = (Arc::clone(&decode_loop.inbox), Arc::clone(&decode_loop.outbox));
    let outcome = catch_unwind(AssertUnwindSafe(|| decode_loop.run()));
    let error = EngineError::DecodeFailed("the decode thread failed; the model must be loaded again".into());
    let end = |id| match outcome {
        Ok(()) => cancelled(id, 0),
        Err(_) => Event::Failed { id, error: error.clone() },
    };
    let left = inbox.abandon();
    outbox.write(|queue| left.into_iter().for_each(|id| queue.push(end(id))));
}

impl DecodeLoop {
    pub(super) fn new(context: Context, facts: ModelFacts, inbox: Arc<Inbox>, outbox: Arc<Outbox>) -> Self {
        let batch_size = context.n_batch() as usize;
        let slots = context.n_seq_max() as usize;
        let capacity = Capacity { slots, cells: context.n_ctx() as usize, batch: batch_size };
        Self {
            pace: Pace::new(facts.threads),
            facts,
            outbox,
            account: Account::default(),
            running: Vec::with_capacity(slots),
            slots: Slots::new(slots, batch_size),
            plan: Plan::default(),
            batch: Batch::with_capacity(batch_size),
            entries: Vec::with_capacity(slots),
            piece: Vec::new(),
            prompt_rate: 0.0,
            batch_size,
            inbox,
            scheduler: Scheduler::new(capacity),
            waiting: HashMap::new(),
            queue_changed: false,
            mail: Vec::new(),
            views: Vec::with_capacity(slots),
            context,
        }
    }

    fn run(mut self) {
        loop {
            let closing = self.inbox.take(&mut self.mail);
            self.read_mail();
            if closing {
                break;
            }
            let now = Instant::now();
            self.end_unwanted(now);
            self.admit(now);
            self.tell_positions();
            self.look(now);
            self.scheduler.plan(&self.views, self.prompt_rate, &mut self.plan);
            if self.plan.is_empty() || self.plan.prompt_tokens() > 0 {
                // The next write may be long in coming.
                self.outbox.announce();
            }
            if self.plan.is_empty() {
                let resting = Instant::now();
                self.inbox.wait(self.next_stall());
                self.pace.rest(resting.elapsed());
            } else {
                self.step();
                self.retire();
            }
        }
        for active in &mut self.running {
            active.ended = Some(Ok(FinishReason::Cancelled));
        }
        self.retire();
    }

    fn read_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        for message in mail.drain(..) {
            match message {
                Mail::Prepared(prepared) if prepared.ticket.is_cancelled() => self.end_waiting(&prepared),
                Mail::Prepared(prepared) => {
                    let cells = prepared.tokens.len() + prepared.max_tokens as usize;
                    self.scheduler.enqueue(prepared.id, cells);
                    self.queue_changed = true;
                    self.waiting.insert(prepared.id, Waiting { prepared, told: None });
                }
                Mail::Refused(id, error) => self.settle(id, Event::Failed { id, error }),
                Mail::Dropped(id) => self.settle(id, cancelled(id, 0)),
                // A running one is seen by its ticket, one not prepared yet comes back from the prompt thread.
                Mail::Cancel(id) => {
                    if self.scheduler.withdraw(id)
                        && let Some(waiting) = self.waiting.remove(&id)
                    {
                        self.queue_changed = true;
                        self.end_waiting(&waiting.prepared);
                    }
                }
            }
        }
        self.mail = mail;
    }

    fn end_waiting(&self, prepared: &Prepared) {
        self.settle(prepared.id, cancelled(prepared.id, prepared.tokens.len()));
    }

    /// Writes the last event of a request, unless it has had it.
    fn settle(&self, id: RequestId, event: Event) {
        if self.inbox.settle(id) {
            self.outbox.write(|queue| queue.push(event));
        }
    }

    /// Ends what was cancelled and what has waited for credit too long.
    fn end_unwanted(&mut self, now: Instant) {
        let timeout = self.facts.stall_timeout;
        let mut any = false;
        for active in &mut self.running {
            let stalled = active.sequence.stalls_at(timeout).is_some_and(|at| at <= now) && !active.ticket.has_credit();
            if stalled || active.ticket.is_cancelled() {
                active.ended = Some(Ok(FinishReason::Cancelled));
                any = true;
            }
        }
        if any {
            self.retire();
        }
    }

    fn next_stall(&self) -> Option<Instant> {
        self.running.iter().filter_map(|active| active.sequence.stalls_at(self.facts.stall_timeout)).min()
    }

    /// Gives slots to those who wait.
    fn admit(&mut self, now: Instant) {
        loop {
            let (waiting, slots) = (&self.waiting, &self.slots);
            let choose = |id: RequestId, free: &[usize]| {
                let wanted = waiting.get(&id).map(|waiting| &waiting.prepared);
                wanted.map_or(free[0], |prepared| slots.choose(free, &prepared.tokens, &prepared.principal))
            };
            let Some((id, slot)) = self.scheduler.admit(choose) else { break };
            self.queue_changed = true;
            match self.waiting.remove(&id) {
                Some(waiting) => self.start(*waiting.prepared, slot, now),
                None => self.scheduler.release(slot),
            }
        }
    }

    /// Tells those who still wait their place, when it is another one.
    fn tell_positions(&mut self) {
        if !std::mem::take(&mut self.queue_changed) {
            return;
        }
        for (position, id) in self.scheduler.waiting().enumerate() {
            let position = position as u32;
            if let Some(waiting) = self.waiting.get_mut(&id)
                && waiting.told.replace(position) != Some(position)
            {
                self.outbox.write(|queue| queue.push(Event::Queued { id, position }));
            }
        }
    }

    fn start(&mut self, prepared: Prepared, slot: usize, now: Instant) {
        let Prepared { id, ticket, tokens, max_tokens, stop, sampling, logprobs, return_prompt, principal, submitted } =
            prepared;
        let shared = self.slots.shared(slot, &tokens, &principal);
        self.slots.forget(slot);
        let cached = if self.cut(slot, shared) { shared } else { 0 };
        let sampler = Sampler::new(&sampling, &self.facts.recommended, &self.facts.end_tokens, &tokens);
        let (prompt_tokens, seed) = (tokens.len() as u32, sampler.seed());
        let prompt = return_prompt.then(|| tokens.clone());
        let sequence = Sequence::new(SequenceParams {
            prompt: tokens,
            cached,
            max_tokens,
            stop,
            sampler,
            logprobs,
            submitted,
            started: now,
        });
        self.running.push(Active {
            id,
            ticket,
            slot,
            sequence,
            principal,
            repeatable: cached,
            in_chunks: false,
            place: None,
            ended: None,
        });
        let cached_tokens = cached as u32;
        self.outbox.write(|queue| queue.push(Event::Started { id, prompt_tokens, cached_tokens, seed, prompt }));
    }

    /// Shortens what the cache holds of a slot to its first `len` tokens. False if the model cannot forget just a
    /// part: then the slot is empty.
    pub(super) fn cut(&mut self, slot: usize, len: usize) -> bool {
        let kept = self.context.memory_seq_rm(slot as i32, len as i32, -1);
        if !kept {
            self.context.memory_seq_rm(slot as i32, -1, -1);
        }
        kept
    }

    /// Looks at every running sequence the way the plan needs it.
    fn look(&mut self, now: Instant) {
        self.views.clear();
        for active in &mut self.running {
            let pending = active.sequence.pending().len();
            // Credit matters once the next token of the answer is due.
            let credit = active.ticket.has_credit();
            active.sequence.note_credit(credit || pending > 1, now);
            let answering = active.sequence.is_answering();
            self.views.push(Running { slot: active.slot, pending, answering, credit });
        }
    }

    /// Reports what the step produced, and takes the sequences it ended out of their slots.
    fn retire(&mut self) {
        let Self { outbox, inbox, running, .. } = self;
        let now = Instant::now();
        outbox.write(|queue| {
            for active in running.iter_mut() {
                let id = active.id;
                if matches!(active.ended, Some(Ok(FinishReason::Cancelled))) {
                    active.sequence.release();
                }
                queue.delta(id, &mut active.sequence.unsent, &mut active.place);
                let Some(ended) = &active.ended else { continue };
                if inbox.settle(id) {
                    queue.push(match ended {
                        Ok(reason) => Event::Finished {
                            id,
                            reason: *reason,
                            usage: active.sequence.usage(),
                            timings: active.sequence.timings(now),
                        },
                        Err(error) => Event::Failed { id, error: error.clone() },
                    });
                }
            }
        });
        while let Some(index) = self.running.iter().position(|active| active.ended.is_some()) {
            let active = self.running.remove(index);
            self.vacate(active);
        }
    }

    /// Gives a slot back with what is worth keeping of its cache.
    fn vacate(&mut self, active: Active) {
        let keep = active.repeatable.min(active.sequence.in_cache());
        let failed = matches!(active.ended, Some(Err(_)));
        if !failed && self.cut(active.slot, keep) {
            self.slots.keep(active.slot, &active.sequence.tokens()[..keep], active.principal);
        } else {
            self.context.memory_seq_rm(active.slot as i32, -1, -1);
        }
        self.scheduler.release(active.slot);
    }
}

/// The last event of a request that was cancelled before it had a slot.
fn cancelled(id: RequestId, prompt_tokens: usize) -> Event {
    let usage = Usage { prompt_tokens: prompt_tokens as u32, ..Usage::default() };
    Event::Finished { id, reason: FinishReason::Cancelled, usage, timings: Timings::default() }
}
