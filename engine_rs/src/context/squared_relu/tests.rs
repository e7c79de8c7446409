use std::ffi::CString;

use super::*;

const GATE: [f32; 6] = [1.5, -2.0, 0.0, 3.0, -0.25, 8.0];
const UP: [f32; 6] = [2.0, 5.0, -1.0, -4.0, 0.5, 1.0];

/// What the functions of a [`TensorApi`] see behind a `ggml_tensor` pointer.
struct Tensor {
    name: CString,
    values: Vec<f32>,
    bytes: usize,
}

impl Tensor {
    fn new(name: &str, values: impl Into<Vec<f32>>) -> Self {
        let values = values.into();
        Self { name: CString::new(name).unwrap(), bytes: values.len() * 4, values }
    }

    fn as_ptr(&self) -> *const GgmlTensor {
        std::ptr::from_ref(self).cast()
    }
}

unsafe extern "C" fn name(tensor: *const GgmlTensor) -> *const c_char {
    // SAFETY: tests pass pointers to `Tensor`s, here and below.
    unsafe { &*tensor.cast::<Tensor>() }.name.as_ptr()
}

unsafe extern "C" fn data(tensor: *const GgmlTensor) -> *mut c_void {
    // SAFETY: as above.
    unsafe { &*tensor.cast::<Tensor>() }.values.as_ptr().cast_mut().cast()
}

unsafe extern "C" fn elements(tensor: *const GgmlTensor) -> i64 {
    // SAFETY: as above.
    unsafe { &*tensor.cast::<Tensor>() }.values.len() as i64
}

unsafe extern "C" fn bytes(tensor: *const GgmlTensor) -> usize {
    // SAFETY: as above.
    unsafe { &*tensor.cast::<Tensor>() }.bytes
}

fn relu(layers: u32) -> SquaredRelu {
    SquaredRelu {
        tensors: TensorApi { name, data, elements, bytes },
        layers,
        gate: Cell::new(null()),
        up: Cell::new(null()),
        corrected: Cell::new(0),
        fault: Cell::new(None),
    }
}

fn silu_product(gate: &[f32], up: &[f32]) -> Vec<f32> {
    gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
}

/// Goes through the nodes as ggml does; false if the callback ended the computation.
fn compute(relu: &SquaredRelu, nodes: &[&Tensor]) -> bool {
    let data = std::ptr::from_ref(relu).cast();
    nodes.iter().all(|node| {
        // SAFETY: `Tensor`s and a `SquaredRelu` of this thread.
        let pauses = unsafe { eval(node.as_ptr(), true, data) };
        // SAFETY: as above.
        !pauses || unsafe { eval(node.as_ptr(), false, data) }
    })
}

fn layer(gate: &[f32], up: &[f32]) -> [Tensor; 5] {
    [
        Tensor::new("ffn_norm-0", [0.0]),
        Tensor::new("ffn_gate-0", [9.0; 6]),
        Tensor::new("ffn_gate_s-0", gate),
        Tensor::new("ffn_up-0", up),
        Tensor::new("ffn_sub_out-0", silu_product(gate, up)),
    ]
}

#[test]
fn the_product_becomes_that_of_the_squared_relu() {
    let relu = relu(1);
    let nodes = layer(&GATE, &UP);
    assert!(compute(&relu, &nodes.each_ref()));
    assert_eq!(nodes[4].values, [4.5, 0.0, -0.0, -36.0, 0.0, 64.0]);
    assert_eq!(relu.finish(), Ok(()));
}

#[test]
fn several_layers_and_parts_of_a_batch_are_corrected_one_by_one() {
    let relu = relu(2);
    for length in [6, 3, 6, 0] {
        let nodes = layer(&GATE[..length], &UP[..length]);
        assert!(compute(&relu, &nodes.each_ref()));
        let expected: Vec<f32> = GATE[..length].iter().zip(UP).map(|(gate, up)| gate.max(0.0).powi(2) * up).collect();
        assert_eq!(nodes[4].values, expected);
    }
    assert_eq!(relu.finish(), Ok(()));
}

#[test]
fn a_layer_that_was_left_out_is_a_fault() {
    let relu = relu(2);
    assert!(compute(&relu, &layer(&GATE, &UP).each_ref()));
    assert_eq!(relu.finish(), Err("not every layer was corrected"));
}

#[test]
fn a_graph_without_a_feed_forward_is_a_fault() {
    let relu = relu(1);
    assert!(compute(&relu, &[&Tensor::new("attn_norm-0", [1.0])]));
    assert!(relu.finish().is_err());
}

#[test]
fn a_product_of_another_activation_is_left_alone_and_ends_the_computation() {
    let relu = relu(1);
    let mut nodes = layer(&GATE, &UP);
    nodes[4].values[0] += 0.1;
    let before = nodes[4].values.clone();
    assert!(!compute(&relu, &nodes.each_ref()));
    assert_eq!(nodes[4].values, before);
    assert_eq!(relu.finish(), Err("a product is not the one of SiLU"));
    assert!(compute(&relu, &layer(&GATE, &UP).each_ref()));
    assert_eq!(relu.finish(), Ok(()), "the next decode starts anew");
}

#[test]
fn a_product_without_its_inputs_is_a_fault() {
    let relu = relu(1);
    let [_, _, gate, _, product] = layer(&GATE, &UP);
    assert!(!compute(&relu, &[&gate, &product]));
    assert!(relu.finish().is_err());
}

#[test]
fn a_product_of_another_size_or_type_is_a_fault() {
    let shorter = |product: &mut Tensor| product.values.truncate(5);
    let narrower = |product: &mut Tensor| product.bytes = 12;
    for spoil in [shorter, narrower] as [fn(&mut Tensor); 2] {
        let relu = relu(1);
        let mut nodes = layer(&GATE, &UP);
        spoil(&mut nodes[4]);
        assert!(!compute(&relu, &nodes.each_ref()));
        assert!(relu.finish().is_err());
    }
}

#[test]
fn a_product_in_the_place_of_an_input_is_a_fault() {
    let relu = relu(1);
    let [_, _, gate, up, _] = layer(&GATE, &UP);
    relu.gate.set(gate.as_ptr());
    relu.up.set(up.as_ptr());
    assert_eq!(relu.correct(gate.as_ptr()), Err("a product lies over its inputs"));
}

#[test]
fn values_that_are_not_finite_pass_through() {
    let relu = relu(1);
    let (gate, up) = ([f32::NAN, f32::INFINITY], [1.0, 2.0]);
    let nodes = layer(&gate, &up);
    assert!(compute(&relu, &nodes.each_ref()));
    assert!(nodes[4].values[1].is_infinite());
    assert_eq!(relu.finish(), Ok(()));
}
