//! What each slot's part of the KV cache holds after its request ended, so that the next one need not read it again.
//!
//! Only tokens that were read in whole batches and alone are kept: reading them again would give the same bits, so
//! an answer does not depend on whether its prompt was cached.

/// The kept beginning of one slot.
#[derive(Debug, Default)]
struct Kept {
    tokens: Vec<i32>,
    principal: String,
    /// When it was kept, by a count of requests.
    age: u64,
}

/// The kept beginnings of all slots.
#[derive(Debug)]
pub(super) struct Slots {
    kept: Vec<Kept>,
    batch: usize,
    clock: u64,
}

impl Slots {
    pub(super) fn new(count: usize, batch: usize) -> Self {
        Self { kept: (0..count).map(|_| Kept::default()).collect(), batch, clock: 0 }
    }

    /// The best of the `free` slots for a prompt: the one that shares most with it, else the one kept longest ago.
    pub(super) fn choose(&self, free: &[usize], prompt: &[i32], principal: &str) -> usize {
        let worth = |slot: &usize| (self.shared(*slot, prompt, principal), std::cmp::Reverse(self.kept[*slot].age));
        free.iter().copied().max_by_key(|slot| worth(slot)).unwrap_or(0)
    }

    /// Tokens at the beginning of `prompt` that the slot holds; always whole batches, never all of the prompt.
    pub(super) fn shared(&self, slot: usize, prompt: &[i32], principal: &str) -> usize {
        let kept = &self.kept[slot];
        if kept.principal != principal {
            return 0;
        }
        let same = kept.tokens.iter().zip(prompt).take_while(|(kept, wanted)| kept == wanted).count();
        same.min(prompt.len() - 1) / self.batch * self.batch
    }

    /// The slot now holds `tokens` and nothing else.
    pub(super) fn keep(&mut self, slot: usize, tokens: &[i32], principal: String) {
        self.clock += 1;
        self.kept[slot] = Kept { tokens: tokens.to_vec(), principal, age: self.clock };
    }

    /// The slot is in use: what it holds is no longer known here.
    pub(super) fn forget(&mut self, slot: usize) {
        self.kept[slot] = Kept { age: self.kept[slot].age, ..Kept::default() };
    }

    /// Slots that hold something.
    pub(super) fn filled(&self) -> impl Iterator<Item = usize> {
        (0..self.kept.len()).filter(|slot| !self.kept[*slot].tokens.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    fn slots() -> Slots {
        let mut slots = Slots::new(3, 4);
        slots.keep(0, &[1, 2, 3, 4, 5, 6, 7, 8], "ann".into());
        slots.keep(1, &[1, 2, 3, 4], "ann".into());
        slots
    }

    #[test]
    fn the_slot_that_shares_most_is_chosen() {
        assert_eq!(slots().choose(&[0, 1, 2], &[1, 2, 3, 4, 5, 6, 7, 8, 9], "ann"), 0);
        assert_eq!(slots().choose(&[1, 2], &[1, 2, 3, 4, 5, 6, 7, 8, 9], "ann"), 1);
    }

    #[test]
    fn without_anything_shared_the_oldest_is_chosen() {
        assert_eq!(slots().choose(&[0, 1, 2], &[9, 9], "ann"), 2);
        assert_eq!(slots().choose(&[0, 1], &[9, 9], "ann"), 0);
    }

    #[test]
    fn whole_batches_are_shared_and_one_token_is_always_left() {
        assert_eq!(slots().shared(0, &[1, 2, 3, 4, 5, 6, 9, 9], "ann"), 4);
        assert_eq!(slots().shared(0, &[1, 2, 3, 4, 5, 6, 7, 8], "ann"), 4);
        assert_eq!(slots().shared(0, &[1, 2, 3, 4, 5, 6, 7, 8, 9], "ann"), 8);
    }

    #[test]
    fn nothing_is_shared_with_another_principal() {
        assert_eq!(slots().shared(0, &[1, 2, 3, 4, 5], "bob"), 0);
    }
}
