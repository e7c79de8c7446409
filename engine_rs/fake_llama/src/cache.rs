//! A KV cache that holds tokens instead of keys and values.

/// One cell: a token at a position, shared by some sequences.
#[derive(Debug, Clone)]
struct Cell {
    token: i32,
    position: i32,
    /// One bit for each sequence.
    sequences: u64,
}

/// The cells of a context.
pub(crate) struct Cache {
    cells: Vec<Cell>,
    size: usize,
    /// Cells one sequence may use.
    per_sequence: usize,
}

impl Cache {
    pub(crate) fn new(size: usize, per_sequence: usize) -> Self {
        Self { cells: Vec::new(), size, per_sequence }
    }

    /// Whether these sequences' tokens, one each, find a cell.
    pub(crate) fn has_room(&self, sequences: &[i32]) -> bool {
        let fits = |sequence: i32| {
            let added = sequences.iter().filter(|&&other| other == sequence).count();
            self.history(sequence).len() + added <= self.per_sequence
        };
        self.cells.len() + sequences.len() <= self.size && sequences.iter().all(|&sequence| fits(sequence))
    }

    pub(crate) fn push(&mut self, token: i32, position: i32, sequence: i32) {
        self.cells.push(Cell { token, position, sequences: 1 << sequence });
    }

    /// The tokens of a sequence by position.
    pub(crate) fn history(&self, sequence: i32) -> Vec<i32> {
        let mut held: Vec<_> = self.cells.iter().filter(|cell| cell.sequences & (1 << sequence) != 0).collect();
        held.sort_by_key(|cell| cell.position);
        held.iter().map(|cell| cell.token).collect()
    }

    /// The last position of a sequence; -1 if it is empty.
    pub(crate) fn last_position(&self, sequence: i32) -> i32 {
        let held = self.cells.iter().filter(|cell| cell.sequences & (1 << sequence) != 0);
        held.map(|cell| cell.position).max().unwrap_or(-1)
    }

    /// Takes the positions in `range` from a sequence, or from all (negative).
    pub(crate) fn remove(&mut self, sequence: i32, range: Positions) {
        let gone = if sequence < 0 { u64::MAX } else { 1 << sequence };
        for cell in self.cells.iter_mut().filter(|cell| range.contains(cell.position)) {
            cell.sequences &= !gone;
        }
        self.cells.retain(|cell| cell.sequences != 0);
    }

    /// Shares the positions in `range` of one sequence with another.
    pub(crate) fn share(&mut self, from: i32, to: i32, range: Positions) {
        let held = self.cells.iter_mut().filter(|cell| cell.sequences & (1 << from) != 0);
        held.filter(|cell| range.contains(cell.position)).for_each(|cell| cell.sequences |= 1 << to);
    }

    pub(crate) fn clear(&mut self) {
        self.cells.clear();
    }
}

/// `p0..p1`, where negative ends are open.
#[derive(Clone, Copy)]
pub(crate) struct Positions(pub(crate) i32, pub(crate) i32);

impl Positions {
    fn contains(self, position: i32) -> bool {
        position >= self.0 && (self.1 < 0 || position < self.1)
    }

    pub(crate) fn are_all(self) -> bool {
        self.0 <= 0 && self.1 < 0
    }
}
