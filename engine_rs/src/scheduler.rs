//! Decides who waits, who runs and what goes into the next batch. Pure policy: no library, no clock, no thread.
//!
//! Each step takes one token of every answering sequence that has credit, then prompt tokens. While others answer,
//! prompts get what can be read in [`PROMPT_SHARE`]; alone they get whole batches, whose sizes then depend on
//! nothing but the prompt, so that greedy and seeded answers repeat bit by bit.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::RequestId;

/// Longest pause in the others' streams that reading a prompt may cause.
const PROMPT_SHARE: Duration = Duration::from_millis(50);
/// Tokens of each prompt in a step in any case, so that a slow machine still gets somewhere.
const LEAST_CHUNK: usize = 16;
/// Prompts that count for this at once: small batches read several slowly, large ones make those who answer wait.
const READ_TOGETHER: usize = 4;

/// Kernels take this many tokens through one pass over the weights; each token beyond costs a pass of its own.
const TOKENS_PER_PASS: usize = 4;

/// What there is to give away.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Sequences at once.
    pub slots: usize,
    /// KV cells for all of them together.
    pub cells: usize,
    /// Tokens of one batch; at least one per slot.
    pub batch: usize,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: RequestId,
    cells: usize,
}

/// Who waits and which slots are taken.
#[derive(Debug)]
pub struct Scheduler {
    capacity: Capacity,
    waiting: VecDeque<Waiting>,
    /// Cells reserved by each slot's sequence; `None` when the slot is free.
    slots: Vec<Option<usize>>,
}

/// A running sequence as the plan sees it.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Its slot.
    pub slot: usize,
    /// Tokens not in the cache yet.
    pub pending: usize,
    /// Whether it produces its answer already; then one token is pending, or more after a rewind.
    pub answering: bool,
    /// Whether it may produce a token.
    pub credit: bool,
}

/// The first `tokens` pending tokens of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The slot.
    pub slot: usize,
    /// How many.
    pub tokens: usize,
}

/// The next batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Slots that contribute the one token they have pending.
    pub answering: Vec<usize>,
    /// Prompt tokens, oldest sequence first.
    pub prompts: Vec<Chunk>,
}

impl Plan {
    /// Whether there is nothing to decode.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answering.is_empty() && self.prompts.is_empty()
    }

    /// Prompt tokens in all.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompts.iter().map(|chunk| chunk.tokens).sum()
    }
}

impl Scheduler {
    /// Nobody waits, all slots are free.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, waiting: VecDeque::new(), slots: vec![None; capacity.slots] }
    }

    /// Lets a request wait that will need `cells`, cut to all there are.
    pub fn enqueue(&mut self, id: RequestId, cells: usize) {
        self.waiting.push_back(Waiting { id, cells: cells.min(self.capacity.cells) });
    }

    /// Takes a waiting request out of the queue; false if it was not there.
    pub fn withdraw(&mut self, id: RequestId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.id != id);
        self.waiting.len() < before
    }

    /// Everyone who waits, first come first.
    pub fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.waiting.iter().map(|waiting| waiting.id)
    }

    /// Gives a slot to the first in the queue, if there is one and its cells are to be had. `choose` picks among the
    /// free slots. Nobody overtakes: who needs much is served in turn.
    pub fn admit(&mut self, choose: impl FnOnce(RequestId, &[usize]) -> usize) -> Option<(RequestId, usize)> {
        let next = *self.waiting.front()?;
        let reserved: usize = self.slots.iter().flatten().sum();
        let free: Vec<usize> = (0..self.slots.len()).filter(|slot| self.slots[*slot].is_none()).collect();
        if free.is_empty() || reserved + next.cells > self.capacity.cells {
            return None;
        }
        let slot = choose(next.id, &free);
        self.waiting.pop_front();
        self.slots[slot] = Some(next.cells);
        Some((next.id, slot))
    }

    /// Gives a slot back.
    pub fn release(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    /// Fills `plan` for `running`, oldest first. `prompt_rate` is in prompt tokens per second, 0 when unknown.
    pub fn plan(&self, running: &[Running], prompt_rate: f64, plan: &mut Plan) {
        plan.answering.clear();
        plan.prompts.clear();
        let answers = running.iter().filter(|sequence| sequence.answering && sequence.pending == 1 && sequence.credit);
        plan.answering.extend(answers.map(|sequence| sequence.slot));
        let prompts = || running.iter().filter(|sequence| !sequence.answering || sequence.pending > 1);
        let mut left = self.prompt_budget(plan.answering.len(), prompts().count(), prompt_rate);
        for sequence in prompts() {
            // The last prompt token yields the first token of the answer, which takes credit.
            let readable = sequence.pending - usize::from(!sequence.credit);
            let tokens = readable.min(left);
            if tokens > 0 {
                plan.prompts.push(Chunk { slot: sequence.slot, tokens });
                left -= tokens;
            }
        }
    }

    fn prompt_budget(&self, answering: usize, reading: usize, prompt_rate: f64) -> usize {
        let room = self.capacity.batch - answering;
        if answering == 0 {
            return room;
        }
        let affordable = (prompt_rate * PROMPT_SHARE.as_secs_f64()) as usize;
        let budget = affordable.max(LEAST_CHUNK * reading.min(READ_TOGETHER)).min(room);
        let odd = (answering + budget) % TOKENS_PER_PASS;
        if odd < budget { budget - odd } else { budget }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::{Capacity, Chunk, LEAST_CHUNK, Plan, Running, Scheduler};

    const CAPACITY: Capacity = Capacity { slots: 4, cells: 1000, batch: 64 };

    fn first(_: u64, free: &[usize]) -> usize {
        free[0]
    }

    fn planned(running: &[Running], rate: f64) -> Plan {
        let mut plan = Plan::default();
        Scheduler::new(CAPACITY).plan(running, rate, &mut plan);
        plan
    }

    fn prompt(slot: usize, pending: usize) -> Running {
        Running { slot, pending, answering: false, credit: true }
    }

    fn answer(slot: usize) -> Running {
        Running { slot, pending: 1, answering: true, credit: true }
    }

    #[test]
    fn a_prompt_alone_is_read_in_whole_batches() {
        assert_eq!(planned(&[prompt(0, 100)], 1.0).prompts, [Chunk { slot: 0, tokens: 64 }]);
        assert_eq!(planned(&[prompt(0, 36)], 1e9).prompts, [Chunk { slot: 0, tokens: 36 }]);
    }

    #[test]
    fn a_prompt_beside_an_answer_gets_fifty_milliseconds_of_whole_passes() {
        let plan = planned(&[answer(1), prompt(0, 100)], 800.0);
        assert_eq!(plan.answering, [1]);
        assert_eq!(plan.prompts, [Chunk { slot: 0, tokens: 39 }]);
    }

    #[test]
    fn a_prompt_beside_an_answer_moves_on_even_when_reading_is_slow() {
        assert_eq!(planned(&[answer(1), prompt(0, 100)], 0.0).prompts, [Chunk { slot: 0, tokens: LEAST_CHUNK - 1 }]);
    }

    #[test]
    fn the_more_prompts_wait_the_more_is_read_in_a_step() {
        let waiting = [answer(0), prompt(1, 20), prompt(2, 100), prompt(3, 100)];
        let read = [Chunk { slot: 1, tokens: 20 }, Chunk { slot: 2, tokens: 3 * LEAST_CHUNK - 1 - 20 }];
        assert_eq!(planned(&waiting, 0.0).prompts, read);
    }

    #[test]
    fn an_answer_without_credit_is_left_out_and_slows_no_prompt() {
        let paused = Running { credit: false, ..answer(1) };
        let plan = planned(&[paused, prompt(0, 100)], 0.0);
        assert_eq!(plan.answering, [] as [usize; 0]);
        assert_eq!(plan.prompts, [Chunk { slot: 0, tokens: 64 }]);
    }

    #[test]
    fn a_prompt_without_credit_is_read_up_to_its_last_token() {
        let paused = Running { credit: false, ..prompt(0, 10) };
        assert_eq!(planned(&[paused], 0.0).prompts, [Chunk { slot: 0, tokens: 9 }]);
        assert!(planned(&[Running { pending: 1, ..paused }], 0.0).is_empty());
    }

    #[test]
    fn a_rewound_answer_is_read_like_a_prompt() {
        let rewound = Running { pending: 30, ..answer(2) };
        assert_eq!(planned(&[rewound], 0.0).prompts, [Chunk { slot: 2, tokens: 30 }]);
    }

    #[test]
    fn nobody_overtakes_a_request_that_needs_many_cells() {
        let mut scheduler = Scheduler::new(CAPACITY);
        for (id, cells) in [(1, 600), (2, 600), (3, 10)] {
            scheduler.enqueue(id, cells);
        }
        assert_eq!(scheduler.admit(first), Some((1, 0)));
        assert_eq!(scheduler.admit(first), None);
        scheduler.release(0);
        assert_eq!(scheduler.admit(first), Some((2, 0)));
        assert_eq!(scheduler.admit(first), Some((3, 1)));
    }

    #[test]
    fn a_withdrawn_request_is_never_admitted() {
        let mut scheduler = Scheduler::new(CAPACITY);
        scheduler.enqueue(1, 10);
        scheduler.enqueue(2, 10);
        assert!(scheduler.withdraw(1) && !scheduler.withdraw(1));
        assert_eq!(scheduler.waiting().collect::<Vec<_>>(), [2]);
        assert_eq!(scheduler.admit(first), Some((2, 0)));
    }

    fn any_running() -> impl Strategy<Value = Vec<Running>> {
        let one = (1usize..200, any::<bool>(), any::<bool>());
        prop::collection::vec(one, 0..=CAPACITY.slots).prop_map(|all| {
            let one = |(slot, (pending, answering, credit))| Running { slot, pending, answering, credit };
            all.into_iter().enumerate().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn a_plan_keeps_its_budget_and_names_each_slot_once(running in any_running(), rate in 0.0f64..1e5) {
            let plan = planned(&running, rate);
            prop_assert!(plan.answering.len() + plan.prompt_tokens() <= CAPACITY.batch);
            let mut seen = HashSet::new();
            prop_assert!(plan.answering.iter().all(|slot| seen.insert(*slot)));
            prop_assert!(plan.prompts.iter().all(|chunk| seen.insert(chunk.slot)));
            for chunk in &plan.prompts {
                let sequence = running.iter().find(|sequence| sequence.slot == chunk.slot).unwrap();
                prop_assert!(chunk.tokens >= 1 && chunk.tokens <= sequence.pending);
                prop_assert!(sequence.credit || chunk.tokens < sequence.pending);
            }
            for sequence in running.iter().filter(|s| s.answering && s.pending == 1) {
                prop_assert_eq!(plan.answering.contains(&sequence.slot), sequence.credit);
            }
        }

        #[test]
        fn everyone_is_served_in_the_end(wishes in prop::collection::vec((1usize..300, 1usize..300), 1..30)) {
            let mut scheduler = Scheduler::new(CAPACITY);
            for (id, (prompt, answer)) in wishes.iter().enumerate() {
                scheduler.enqueue(id as u64, prompt + answer);
            }
            // Slot → (id, prompt tokens left, answer tokens left), oldest first by id.
            let mut running: BTreeMap<u64, (usize, usize, usize)> = BTreeMap::new();
            let (mut plan, mut served) = (Plan::default(), 0);
            for _ in 0..100_000 {
                while let Some((id, slot)) = scheduler.admit(first) {
                    let (prompt, answer) = wishes[id as usize];
                    prop_assert!(running.insert(id, (slot, prompt, answer)).is_none());
                }
                let reserved: usize = running.keys().map(|id| wishes[*id as usize].0 + wishes[*id as usize].1).sum();
                prop_assert!(reserved <= CAPACITY.cells && running.len() <= CAPACITY.slots);
                let views: Vec<Running> = running
                    .values()
                    .map(|(slot, prompt, _)| Running {
                        slot: *slot, pending: (*prompt).max(1), answering: *prompt == 0, credit: true,
                    })
                    .collect();
                if views.is_empty() {
                    break;
                }
                scheduler.plan(&views, 500.0, &mut plan);
                prop_assert!(!plan.is_empty());
                for (slot, prompt, answer) in running.values_mut() {
                    if plan.answering.contains(slot) {
                        *answer -= 1;
                    }
                    let read: usize =
                        plan.prompts.iter().filter(|chunk| chunk.slot == *slot).map(|chunk| chunk.tokens).sum();
                    *prompt -= read;
                }
                let finished: Vec<u64> =
                    running.iter().filter(|(_, (_, prompt, answer))| prompt + answer == 0).map(|(id, _)| *id).collect();
                for id in finished {
                    scheduler.release(running.remove(&id).unwrap().0);
                    served += 1;
                }
            }
            prop_assert_eq!(served, wishes.len());
        }
    }
}
