//! Parameter structs whose layout changes with every `libllama`: carried as opaque blocks, located by anchors.
//!
//! Nothing here knows a struct definition. The library fills a block with its own defaults, and the
//! values of those defaults tell where the few fields lie that this crate sets.

use std::ffi::c_void;

use super::profile::Profile;
use crate::error::{EngineError, Result};

/// Bytes of a [`Block`]: three times the largest struct seen (168).
const BLOCK_SIZE: usize = 512;

/// A parameter struct or `llama_batch`, passed by value.
///
/// The callee declares a smaller struct and reads only its own bytes: such a struct is always the last
/// argument, and structs of this size go in memory on every supported ABI.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Block([u8; BLOCK_SIZE]);

/// A `*_default_params` function, which returns its struct through a hidden pointer.
pub(crate) type DefaultParams = unsafe extern "C" fn(*mut Block) -> *mut Block;

impl Block {
    /// A block of equal bytes.
    pub(crate) const fn filled(byte: u8) -> Self {
        Self([byte; BLOCK_SIZE])
    }

    /// The `i32` at a byte offset.
    pub(crate) fn i32_at(&self, offset: usize) -> i32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        i32::from_ne_bytes(bytes)
    }

    /// Writes an `i32` at a byte offset.
    pub(crate) fn set_i32(&mut self, offset: usize, value: i32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    /// Writes a C `bool` at a byte offset.
    pub(crate) fn set_bool(&mut self, offset: usize, value: bool) {
        self.0[offset] = value.into();
    }

    /// Writes a pointer at a byte offset.
    pub(crate) fn set_pointer(&mut self, offset: usize, value: *const c_void) {
        self.0[offset..offset + size_of::<usize>()].copy_from_slice(&value.expose_provenance().to_ne_bytes());
    }
}

/// A library's default parameters and how many bytes of them it wrote.
#[derive(Clone, Copy)]
pub(crate) struct Defaults {
    block: Block,
    written: usize,
}

impl Defaults {
    /// Asks the library for its defaults, twice, over two backgrounds: what differs was not written.
    ///
    /// # Safety
    /// `function` must be a `libllama` function that takes nothing and returns a struct by value.
    pub(crate) unsafe fn read(function: DefaultParams) -> Self {
        let mut block = Block::filled(0);
        let mut marked = Block::filled(0xAA);
        for target in [&mut block, &mut marked] {
            // SAFETY: the caller vouches for the function; the block is larger than what it writes.
            unsafe { call_returning_struct(function, target) };
        }
        let written = (0..BLOCK_SIZE).rev().find(|&i| block.0[i] == marked.0[i]).map_or(0, |last| last + 1);
        Self { block, written }
    }

    /// A block to change and pass on.
    pub(crate) fn block(&self) -> Block {
        self.block
    }

    fn bytes(&self) -> &[u8] {
        &self.block.0[..self.written]
    }

    /// The size of the struct: what was written, padded to its alignment.
    fn size(&self) -> usize {
        self.written.next_multiple_of(8)
    }
}

/// Calls a function that returns a large struct, which lands in `target`.
#[cfg(not(target_arch = "aarch64"))]
unsafe fn call_returning_struct(function: DefaultParams, target: &mut Block) {
    // SAFETY: the pointer to the result is an ordinary first argument on this architecture.
    unsafe { function(target) };
}

/// Calls a function that returns a large struct, which lands in `target`.
#[cfg(target_arch = "aarch64")]
unsafe fn call_returning_struct(function: DefaultParams, target: &mut Block) {
    // SAFETY: AArch64 passes the pointer to a large result in x8; `clobber_abi` covers what the callee may change.
    unsafe {
        std::arch::asm!("blr {function}", function = in(reg) function, in("x8") &raw mut *target, clobber_abi("C"));
    }
}

/// Where the fields lie that this crate sets, in the library that is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `llama_model_params.n_gpu_layers`.
    pub(crate) n_gpu_layers: usize,
    /// What turns memory mapping off; `None` when the layout is not a known one.
    pub(crate) mapping: Option<MappingField>,
    /// `llama_context_params.n_ctx`; `n_batch`, `n_ubatch` and `n_seq_max` follow it.
    pub(crate) context_sizes: usize,
    /// `llama_context_params.kv_unified`; a guess until a context made with it has been checked.
    pub(crate) kv_unified: Option<usize>,
    /// `llama_context_params.op_offload`, in front of `swa_full` and `kv_unified`.
    pub(crate) op_offload: Option<usize>,
    /// `llama_context_params.cb_eval`, its data behind it; a guess until the callback has been called.
    pub(crate) eval_callback: Option<usize>,
}

/// The field of `llama_model_params` that decides about memory mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MappingField {
    /// `bool use_mmap`, until July 2026.
    UseMmap(usize),
    /// `i32 load_mode`, since August 2026; 0 reads the file.
    LoadMode(usize),
}

/// `n_ctx`, `n_batch`, `n_ubatch`, `n_seq_max` of `llama_context_params`.
const CONTEXT_SIZES: [i32; 4] = [512, 2048, 512, 1];

/// `embeddings`, `offload_kqv`, `no_perf`, `op_offload`, `swa_full`, `kv_unified` of `llama_context_params`.
const CONTEXT_FLAGS: &[u8] = &[0, 1, 1, 1, 1, 0];
/// The same with `flash_attn` in third place (July and August 2025).
const CONTEXT_FLAGS_WITH_FLASH_ATTN: &[u8] = &[0, 1, 0, 1, 1, 1, 0];

impl Layout {
    /// Finds the fields in a library's defaults, or says what does not look as its generation should.
    pub(crate) fn derive(profile: Profile, model: &Defaults, context: &Defaults) -> Result<Self> {
        let split_mode = (0..model.written.saturating_sub(3)).step_by(4).find(|&at| model.block.i32_at(at) == 1);
        let Some(split_mode) = split_mode.filter(|at| profile.split_modes().contains(at)) else {
            let message = format!("llama_model_params has an unknown layout for {profile:?}");
            return Err(EngineError::AbiUnsupported(message));
        };
        let context_sizes = profile.context_sizes();
        let sizes = [0, 4, 8, 12].map(|at| context.block.i32_at(context_sizes + at));
        if sizes != CONTEXT_SIZES {
            let message = format!("llama_context_params has the sizes {sizes:?} for {profile:?}");
            return Err(EngineError::AbiUnsupported(message));
        }
        let cache_types = find_cache_types(context);
        let kv_unified = cache_types.and_then(|types| find_kv_unified(context, types));
        Ok(Self {
            n_gpu_layers: split_mode - 4,
            mapping: find_mapping(model, split_mode),
            context_sizes,
            kv_unified,
            op_offload: kv_unified.map(|at| at - 2),
            eval_callback: cache_types.map(|types| types - 16),
        })
    }
}

fn find_mapping(model: &Defaults, split_mode: usize) -> Option<MappingField> {
    let flags = model.size().checked_sub(8)?;
    match (split_mode, model.size(), model.block.i32_at(24)) {
        (20, 72 | 80, -1) => Some(MappingField::LoadMode(24)),
        // `vocab_only`, `use_mmap`, then two that are off (`use_mlock` and a neighbour).
        (4, 64, _) | (12, 64 | 72, _) | (20, 72, 0) if model.bytes()[flags..].starts_with(&[0, 1, 0, 0]) => {
            Some(MappingField::UseMmap(flags + 1))
        }
        _ => None,
    }
}

/// `type_k` and `type_v`, both 1 (f16), behind the two pointers of the eval callback.
fn find_cache_types(context: &Defaults) -> Option<usize> {
    let bytes = context.bytes();
    unique((40..bytes.len().saturating_sub(7)).step_by(8).filter(|&at| {
        context.block.i32_at(at) == 1 && context.block.i32_at(at + 4) == 1 && bytes[at - 16..at].iter().all(|&b| b == 0)
    }))
}

fn find_kv_unified(context: &Defaults, types: usize) -> Option<usize> {
    let bytes = context.bytes();
    let flags = |pattern: &'static [u8]| {
        unique((types + 8..bytes.len()).step_by(8).filter(move |&at| bytes[at..].starts_with(pattern)))
            .map(|at| at + pattern.len() - 1)
    };
    flags(CONTEXT_FLAGS).or_else(|| flags(CONTEXT_FLAGS_WITH_FLASH_ATTN))
}

fn unique(mut found: impl Iterator<Item = usize>) -> Option<usize> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Defaults as a library left them: its bytes but for zeroes, as `i32`s at their offsets.
    fn recorded(written: usize, values: &[(usize, i32)]) -> Defaults {
        let mut block = Block::filled(0);
        for &(offset, value) in values {
            block.set_i32(offset, value);
        }
        Defaults { block, written }
    }

    /// The context's sizes, `type_k` and `type_v` at `types`, and a run of flags.
    fn context(written: usize, types: usize, flags: usize, run: &[u8]) -> Defaults {
        let mut values: Vec<_> = [0, 4, 8, 12].into_iter().zip(CONTEXT_SIZES).collect();
        values.extend([(types, 1), (types + 4, 1)]);
        let mut defaults = recorded(written, &values);
        for (at, &flag) in run.iter().enumerate() {
            defaults.block.set_bool(flags + at, flag == 1);
        }
        defaults
    }

    fn derive(model: &Defaults, context: &Defaults) -> Result<Layout> {
        Layout::derive(Profile::Since2025, model, context)
    }

    /// `use_mmap` among its neighbours, as the `i32` of four flags.
    const MMAP_ON: i32 = i32::from_ne_bytes([0, 1, 0, 0]);

    fn model_of_2026() -> Defaults {
        recorded(78, &[(16, -1), (20, 1), (24, -1), (28, 1), (72, i32::from_ne_bytes([0, 0, 1, 0]))])
    }

    #[test]
    fn finds_the_fields_of_b4980() {
        let model = recorded(60, &[(12, 1), (56, MMAP_ON)]);
        let layout = derive(&model, &context(120, 88, 96, &[0, 0, 1, 0, 1])).unwrap();
        let mapping = Some(MappingField::UseMmap(57));
        assert_eq!(
            layout,
            Layout {
                n_gpu_layers: 8,
                mapping,
                context_sizes: 0,
                kv_unified: None,
                op_offload: None,
                eval_callback: Some(72)
            }
        );
    }

    #[test]
    fn finds_the_fields_of_b7347() {
        let model = recorded(70, &[(16, 999), (20, 1), (64, MMAP_ON), (68, 1)]);
        let layout = derive(&model, &context(118, 88, 112, &[0, 1, 1, 1, 1, 0])).unwrap();
        let mapping = Some(MappingField::UseMmap(65));
        assert_eq!(
            layout,
            Layout {
                n_gpu_layers: 16,
                mapping,
                context_sizes: 0,
                kv_unified: Some(117),
                op_offload: Some(115),
                eval_callback: Some(72)
            }
        );
    }

    #[test]
    fn finds_the_fields_of_0_5_0() {
        let layout = derive(&model_of_2026(), &context(160, 104, 128, &[0, 1, 1, 1, 1, 0])).unwrap();
        let mapping = Some(MappingField::LoadMode(24));
        assert_eq!(
            layout,
            Layout {
                n_gpu_layers: 16,
                mapping,
                context_sizes: 0,
                kv_unified: Some(133),
                op_offload: Some(131),
                eval_callback: Some(88)
            }
        );
    }

    #[test]
    fn follows_the_flags_when_a_field_is_put_before_them() {
        let layout = derive(&model_of_2026(), &context(168, 104, 136, &[0, 1, 1, 1, 1, 0])).unwrap();
        assert_eq!(layout.kv_unified, Some(141));
    }

    #[test]
    fn finds_the_flag_behind_the_flash_attention_of_summer_2025() {
        let layout = derive(&model_of_2026(), &context(120, 88, 112, &[0, 1, 0, 1, 1, 1, 0])).unwrap();
        assert_eq!(layout.kv_unified, Some(118));
    }

    #[test]
    fn leaves_the_cache_flag_alone_when_its_neighbours_changed() {
        let layout = derive(&model_of_2026(), &context(160, 104, 128, &[0, 1, 1, 0, 1, 1, 0])).unwrap();
        assert_eq!(layout.kv_unified, None);
    }

    #[test]
    fn leaves_mapping_alone_in_an_unknown_model_layout() {
        let model = recorded(86, &[(16, -1), (20, 1), (24, -1)]);
        let layout = derive(&model, &context(160, 104, 128, &[0, 1, 1, 1, 1, 0])).unwrap();
        assert_eq!(layout.mapping, None);
    }

    /// Both parameter structs of August 2024, whose context begins with a seed, or of October 2024.
    fn defaults_of_2024(seed: bool) -> (Defaults, Defaults) {
        let sizes = if seed { 4 } else { 0 };
        let mut context = context(120, 88, 96, &[0, 0, 1, 0]);
        context.block.set_i32(0, -1);
        for (at, value) in [0, 4, 8, 12].into_iter().zip(CONTEXT_SIZES) {
            context.block.set_i32(sizes + at, value);
        }
        (recorded(60, &[(4, 1), (56, MMAP_ON)]), context)
    }

    #[test]
    fn finds_the_fields_of_both_generations_of_2024() {
        for (profile, context_sizes) in [(Profile::August2024, 4), (Profile::October2024, 0)] {
            let (model, context) = defaults_of_2024(context_sizes == 4);
            let layout = Layout::derive(profile, &model, &context).unwrap();
            let mapping = Some(MappingField::UseMmap(57));
            let expected = Layout {
                n_gpu_layers: 0,
                mapping,
                context_sizes,
                kv_unified: None,
                op_offload: None,
                eval_callback: Some(72),
            };
            assert_eq!(layout, expected);
        }
    }

    #[test]
    fn refuses_one_generation_taken_for_another() {
        let profiles = [Profile::August2024, Profile::October2024, Profile::Since2025];
        let (model, august) = defaults_of_2024(true);
        let (_, october) = defaults_of_2024(false);
        for (context, right) in [(&august, Profile::August2024), (&october, Profile::October2024)] {
            for wrong in profiles.into_iter().filter(|profile| *profile != right) {
                let error = Layout::derive(wrong, &model, context).unwrap_err();
                assert_eq!(error.code(), "abi_unsupported", "{right:?} as {wrong:?}");
            }
        }
        let today = context(160, 104, 128, &[0, 1, 1, 1, 1, 0]);
        assert!(Layout::derive(Profile::October2024, &model_of_2026(), &today).is_err());
    }

    #[test]
    fn refuses_a_context_that_starts_with_something_else() {
        let mut shifted = context(160, 104, 128, &[0, 1, 1, 1, 1, 0]);
        shifted.block.set_i32(0, -1);
        assert_eq!(derive(&model_of_2026(), &shifted).unwrap_err().code(), "abi_unsupported");
    }

    // On AArch64 the hidden pointer is no argument, so that this function could not be written.
    #[cfg(not(target_arch = "aarch64"))]
    #[test]
    fn measures_how_much_a_library_writes() {
        unsafe extern "C" fn writes_20_bytes(target: *mut Block) -> *mut Block {
            // SAFETY: the test passes a block.
            unsafe { target.cast::<[i32; 5]>().write([0, 1, 2, 3, 0]) };
            target
        }
        // SAFETY: called as a function that returns a struct of 20 bytes.
        let defaults = unsafe { Defaults::read(writes_20_bytes) };
        assert_eq!((defaults.written, defaults.size()), (20, 24));
    }
}
