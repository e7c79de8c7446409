//! Parameter structs and the batch, laid out as in llama.cpp 0.5.0.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

#[repr(C)]
pub struct ModelParams {
    devices: *const c_void,
    tensor_buft_overrides: *const c_void,
    n_gpu_layers: i32,
    split_mode: i32,
    load_mode: i32,
    lazy_mode: i32,
    main_gpu: i32,
    tensor_split: *const f32,
    progress_callback: *const c_void,
    progress_callback_user_data: *mut c_void,
    kv_overrides: *const c_void,
    vocab_only: bool,
    check_tensors: bool,
    use_extra_bufts: bool,
    no_host: bool,
    no_alloc: bool,
    load_mtp: bool,
}

impl Default for ModelParams {
    fn default() -> Self {
        Self {
            devices: null(),
            tensor_buft_overrides: null(),
            n_gpu_layers: -1,
            split_mode: 1,
            load_mode: -1,
            lazy_mode: 1,
            main_gpu: 0,
            tensor_split: null(),
            progress_callback: null(),
            progress_callback_user_data: null_mut(),
            kv_overrides: null(),
            vocab_only: false,
            check_tensors: false,
            use_extra_bufts: true,
            no_host: false,
            no_alloc: false,
            load_mtp: false,
        }
    }
}

#[repr(C)]
pub struct ContextParams {
    pub(crate) n_ctx: u32,
    pub(crate) n_batch: u32,
    pub(crate) n_ubatch: u32,
    pub(crate) n_seq_max: u32,
    n_rs_seq: u32,
    n_outputs_max: u32,
    n_outputs_max_per_seq: u32,
    n_threads: i32,
    n_threads_batch: i32,
    ctx_type: i32,
    rope_scaling_type: i32,
    pooling_type: i32,
    attention_type: i32,
    flash_attn_type: i32,
    rope: [f32; 6],
    yarn_orig_ctx: u32,
    defrag_thold: f32,
    cb_eval: *const c_void,
    cb_eval_user_data: *mut c_void,
    type_k: i32,
    type_v: i32,
    abort_callback: *const c_void,
    abort_callback_data: *mut c_void,
    embeddings: bool,
    offload_kqv: bool,
    no_perf: bool,
    op_offload: bool,
    swa_full: bool,
    pub(crate) kv_unified: bool,
    samplers: *const c_void,
    n_samplers: usize,
    ctx_other: *const c_void,
}

impl Default for ContextParams {
    fn default() -> Self {
        Self {
            n_ctx: 512,
            n_batch: 2048,
            n_ubatch: 512,
            n_seq_max: 1,
            n_rs_seq: 0,
            n_outputs_max: 0,
            n_outputs_max_per_seq: 1,
            n_threads: 4,
            n_threads_batch: 4,
            ctx_type: 0,
            rope_scaling_type: -1,
            pooling_type: -1,
            attention_type: -1,
            flash_attn_type: -1,
            rope: [0.0, 0.0, -1.0, -1.0, -1.0, -1.0],
            yarn_orig_ctx: 0,
            defrag_thold: -1.0,
            cb_eval: null(),
            cb_eval_user_data: null_mut(),
            type_k: 1,
            type_v: 1,
            abort_callback: null(),
            abort_callback_data: null_mut(),
            embeddings: false,
            offload_kqv: true,
            no_perf: true,
            op_offload: true,
            swa_full: true,
            kv_unified: false,
            samplers: null(),
            n_samplers: 0,
            ctx_other: null(),
        }
    }
}

#[repr(C)]
pub struct Batch {
    n_tokens: i32,
    token: *const i32,
    embd: *const f32,
    pos: *const i32,
    n_seq_id: *const i32,
    seq_id: *const *const i32,
    logits: *const i8,
}

/// One token of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) token: i32,
    pub(crate) position: i32,
    pub(crate) sequence: i32,
    pub(crate) output: bool,
}

impl Batch {
    /// # Safety
    /// All arrays but `embd` must have `n_tokens` items, and each item of `seq_id` must point to one.
    pub(crate) unsafe fn entries(&self) -> Vec<Entry> {
        let entry = |index: usize| {
            // SAFETY: as the caller promises.
            let (sequences, entry) = unsafe {
                let entry = Entry {
                    token: *self.token.add(index),
                    position: *self.pos.add(index),
                    sequence: **self.seq_id.add(index),
                    output: *self.logits.add(index) != 0,
                };
                (*self.n_seq_id.add(index), entry)
            };
            assert_eq!(sequences, 1, "the engine shares cells by llama_memory_seq_cp");
            entry
        };
        (0..usize::try_from(self.n_tokens).unwrap_or(0)).map(entry).collect()
    }
}
