//! The squared `ReLU` of BitNet-b1.58-2B-4T, whose feed-forward `libllama` computes with a `SiLU` instead.
//!
//! `libllama` asks its eval callback about every node of a graph, in order, and pauses behind those it wants to see.
//! Behind the product `silu(gate) × up` the inputs are still there, so one pause per layer is enough: the product is
//! written anew. That those tensors are what their names say is checked each time, on some of their values.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::null;
use std::rc::Rc;

use super::{Batch, Context};
use crate::error::{EngineError, Result};
use crate::ffi::{Block, GgmlTensor, Symbols};
use crate::model::Model;

/// Says in a file's metadata which activation its feed-forward has, if not its architecture's.
const ACTIVATION_KEY: &str = "tabagent.ffn_activation";
/// Values of each product that are compared with what they should be.
const CHECKED: usize = 16;
/// How far a product may be off, relative to `gate × up`: more than any `exp` of ggml, less than another activation.
const TOLERANCE: f32 = 1e-3;

/// Why a layer could not be corrected.
type Fault = &'static str;
type Checked<T> = std::result::Result<T, Fault>;

/// What reads a tensor without knowing its struct.
struct TensorApi {
    name: unsafe extern "C" fn(*const GgmlTensor) -> *const c_char,
    data: unsafe extern "C" fn(*const GgmlTensor) -> *mut c_void,
    elements: unsafe extern "C" fn(*const GgmlTensor) -> i64,
    bytes: unsafe extern "C" fn(*const GgmlTensor) -> usize,
}

/// Corrects the layers of one context's graphs, as its eval callback.
pub(super) struct SquaredRelu {
    tensors: TensorApi,
    layers: u32,
    /// The last ones asked about; null outside of a layer.
    gate: Cell<*const GgmlTensor>,
    up: Cell<*const GgmlTensor>,
    corrected: Cell<u32>,
    fault: Cell<Option<Fault>>,
}

/// Puts the callback into the parameters of a context, if its model needs it.
///
/// # Errors
/// [`EngineError::GgufUnsupported`] for another activation, and for layers on a GPU, whose memory is out of reach;
/// [`EngineError::AbiUnsupported`] where the callback has no known place.
pub(super) fn attach(model: &Model, params: &mut Block) -> Result<Option<Rc<SquaredRelu>>> {
    match model.meta(ACTIVATION_KEY).as_deref() {
        None => return Ok(None),
        Some("relu_sqr") => {}
        Some(other) => return Err(EngineError::GgufUnsupported(format!("{ACTIVATION_KEY} is {other:?}"))),
    }
    if model.gpu_layers() != 0 {
        return Err(EngineError::GgufUnsupported("a squared ReLU needs all layers on the CPU".into()));
    }
    let runtime = model.runtime();
    let relu = SquaredRelu::new(&runtime.symbols, layers_of(model));
    let Some((relu, callback)) = relu.zip(runtime.layout.eval_callback) else {
        return Err(not_proved("there is no eval callback"));
    };
    params.set_pointer(callback, eval as *const c_void);
    params.set_pointer(callback + size_of::<usize>(), Rc::as_ptr(&relu).cast());
    if let Some(op_offload) = runtime.layout.op_offload {
        params.set_bool(op_offload, false);
    }
    Ok(Some(relu))
}

fn layers_of(model: &Model) -> u32 {
    let architecture = model.meta("general.architecture").unwrap_or_default();
    model.meta(&format!("{architecture}.block_count")).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn not_proved(reason: &str) -> EngineError {
    EngineError::AbiUnsupported(format!("no squared ReLU in this runtime: {reason}"))
}

impl Context {
    /// Decodes one token to see whether every layer is corrected: else this is another model.
    pub(super) fn prove_squared_relu(&mut self) -> Result<()> {
        if self.squared_relu.is_none() {
            return Ok(());
        }
        let mut token = Batch::with_capacity(1);
        token.push(0, 0, 0, true);
        let decoded = self.decode(&token);
        self.outputs.clear();
        self.memory_clear();
        decoded.map(drop)
    }

    /// Whether the decode that has just ended corrected every layer of every part it computed.
    pub(super) fn check_squared_relu(&self) -> Result<()> {
        self.squared_relu.as_ref().map_or(Ok(()), |relu| relu.finish().map_err(not_proved))
    }
}

impl SquaredRelu {
    /// `None` where ggml lacks a function that reads a tensor.
    fn new(symbols: &Symbols, layers: u32) -> Option<Rc<Self>> {
        let tensors = TensorApi {
            name: symbols.tensor_name?,
            data: symbols.tensor_data?,
            elements: symbols.tensor_elements?,
            bytes: symbols.tensor_bytes?,
        };
        Some(Rc::new(Self {
            tensors,
            layers,
            gate: Cell::new(null()),
            up: Cell::new(null()),
            corrected: Cell::new(0),
            fault: Cell::new(None),
        }))
    }

    /// Ends a decode; the next one has other tensors.
    fn finish(&self) -> Checked<()> {
        self.gate.set(null());
        self.up.set(null());
        let corrected = self.corrected.take();
        match self.fault.take() {
            Some(fault) => Err(fault),
            None if corrected == 0 => Err("its eval callback does not see the feed-forward"),
            None if !corrected.is_multiple_of(self.layers) => Err("not every layer was corrected"),
            None => Ok(()),
        }
    }

    /// Remembers the inputs of a product; true for the product itself.
    fn wants(&self, tensor: *const GgmlTensor) -> bool {
        // SAFETY: a node of the graph at hand, whose name ends with NUL.
        let name = unsafe { CStr::from_ptr((self.tensors.name)(tensor)) }.to_bytes();
        let Some(name) = name.strip_prefix(b"ffn_") else { return false };
        // A scaled input comes twice, as `ffn_gate-N` and then as `ffn_gate_s-N`: the last one counts.
        if name.starts_with(b"gate") {
            self.gate.set(tensor);
        } else if name.starts_with(b"up") {
            self.up.set(tensor);
        }
        name.starts_with(b"sub_out-")
    }

    /// Writes `relu(gate)² × up` over a product.
    fn correct(&self, product: *const GgmlTensor) -> Checked<()> {
        let (gate, up) = (self.gate.replace(null()), self.up.replace(null()));
        if gate.is_null() || up.is_null() {
            return Err("a product comes without its inputs");
        }
        // SAFETY: nodes of the graph at hand, which were allocated before it was computed.
        let (gate, up, product) = unsafe { (self.values(gate)?, self.values(up)?, self.values(product)?) };
        if gate.len() != product.len() || up.len() != product.len() {
            return Err("a product and its inputs differ in size");
        }
        if overlap(gate, product) || overlap(up, product) {
            return Err("a product lies over its inputs");
        }
        // SAFETY: memory of that length, which nobody else uses while the graph is paused; the product lies apart.
        let (gate, up, product) = unsafe { (&*gate, &*up, &mut *product) };
        if !is_gated_silu(gate, up, product) {
            return Err("a product is not the one of SiLU");
        }
        write_gated_squared_relu(gate, up, product);
        self.corrected.set(self.corrected.get().saturating_add(1));
        Ok(())
    }

    /// Where a tensor's values lie, if they are `f32`s without gaps.
    ///
    /// # Safety
    /// `tensor` must be an allocated tensor.
    unsafe fn values(&self, tensor: *const GgmlTensor) -> Checked<*mut [f32]> {
        let TensorApi { data, elements, bytes, .. } = self.tensors;
        // SAFETY: as the caller promises.
        let (data, elements, bytes) = unsafe { (data(tensor).cast::<f32>(), elements(tensor), bytes(tensor)) };
        let length = usize::try_from(elements).unwrap_or(usize::MAX);
        if data.is_null() || !data.is_aligned() || length.checked_mul(size_of::<f32>()) != Some(bytes) {
            return Err("a tensor is not made of f32");
        }
        Ok(std::ptr::slice_from_raw_parts_mut(data, length))
    }
}

/// `ggml_backend_sched_eval_callback`: asked whether it wants to see a node, then called when that has its values.
/// False at that stage ends the computation.
///
/// # Safety
/// `tensor` must be a node of the graph at hand, on the CPU; `data` a [`SquaredRelu`] that only this thread uses.
unsafe extern "C" fn eval(tensor: *const GgmlTensor, ask: bool, data: *const c_void) -> bool {
    // SAFETY: as the caller promises.
    let relu = unsafe { &*data.cast::<SquaredRelu>() };
    if ask {
        return relu.wants(tensor);
    }
    let corrected = relu.correct(tensor);
    if let Err(fault) = corrected {
        relu.fault.set(Some(fault));
    }
    corrected.is_ok()
}

fn overlap(one: *const [f32], other: *const [f32]) -> bool {
    let range = |values: *const [f32]| values.cast::<f32>()..values.cast::<f32>().wrapping_add(values.len());
    let (one, other) = (range(one), range(other));
    one.start < other.end && other.start < one.end
}

/// Whether the first values are `silu(gate) × up`; where that is not finite, nothing is said.
fn is_gated_silu(gate: &[f32], up: &[f32], product: &[f32]) -> bool {
    gate.iter().zip(up).zip(product).take(CHECKED).all(|((gate, up), product)| {
        let plain = gate * up;
        let off = plain / (1.0 + (-gate).exp()) - product;
        !off.is_finite() || off.abs() <= TOLERANCE * plain.abs() + f32::EPSILON
    })
}

/// `product = relu(gate)² × up`, in the order of the original's operations.
fn write_gated_squared_relu(gate: &[f32], up: &[f32], product: &mut [f32]) {
    for ((product, gate), up) in product.iter_mut().zip(gate).zip(up) {
        let positive = gate.max(0.0);
        *product = positive * positive * up;
    }
}

#[cfg(test)]
mod tests;
