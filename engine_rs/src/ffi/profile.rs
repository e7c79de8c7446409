//! The generations of `libllama`: functions of the same name that take other structs and mean other things.

use std::ffi::c_int;

use super::library::Libraries;
use super::symbols::exists;

/// A generation. What a field or a function is called does not tell it; which functions there are does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// August 2024, the libraries of `BitnetRelease`: sampling on the context, a seed in its parameters.
    August2024,
    /// October 2024 to January 2025, the `BitNet` fork among them: sampler chains, the model still its own vocabulary.
    October2024,
    /// Since January 2025: the vocabulary is an object of its own.
    Since2025,
}

/// What the numbers of the library's log levels mean that matter here.
pub(crate) struct LogLevels {
    pub(crate) error: c_int,
    /// The rest of the line before; `None` where each line has its own level.
    pub(crate) continued: Option<c_int>,
}

impl Profile {
    /// Tells the generation by its functions. [`Layout::derive`](super::Layout::derive) proves it.
    pub(crate) fn of(libraries: &Libraries) -> Self {
        if exists(libraries, "llama_init_from_model") {
            Self::Since2025
        } else if exists(libraries, "llama_sampler_chain_init") {
            Self::October2024
        } else {
            Self::August2024
        }
    }

    /// Where `split_mode` may lie in `llama_model_params`: behind the layers, before which pointers came to lie.
    pub(super) fn split_modes(self) -> &'static [usize] {
        match self {
            Self::August2024 => &[4],
            Self::October2024 => &[4, 12],
            Self::Since2025 => &[12, 20],
        }
    }

    /// Where `n_ctx` lies in `llama_context_params`; `n_batch`, `n_ubatch` and `n_seq_max` follow it.
    pub(super) fn context_sizes(self) -> usize {
        match self {
            Self::August2024 => size_of::<u32>(), // behind the seed
            Self::October2024 | Self::Since2025 => 0,
        }
    }

    /// Whether a decode can be stopped half-way: before 2025 that hung with several threads, and told of success with
    /// one.
    pub(crate) fn can_abort(self) -> bool {
        self == Self::Since2025
    }

    pub(crate) fn log_levels(self) -> &'static LogLevels {
        match self {
            Self::August2024 => &LogLevels { error: 2, continued: None },
            Self::October2024 => &LogLevels { error: 3, continued: Some(5) },
            Self::Since2025 => &LogLevels { error: 4, continued: Some(5) },
        }
    }
}
