//! `inspect_gguf` in Python: what the header of a file says, as a dictionary.

use std::path::PathBuf;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::gguf::{self, MetaValue};

#[derive(IntoPyObject)]
struct TensorTotal {
    name: String,
    tensors: u64,
    bytes: u64,
}

#[derive(IntoPyObject)]
struct Ternary {
    encoding: Option<&'static str>,
    tensors: u64,
    runs_as: Vec<&'static str>,
    needs_transcoding: bool,
    squared_relu: bool,
}

#[derive(IntoPyObject)]
pub struct Summary<'py> {
    version: u32,
    file_bytes: u64,
    parts: u64,
    architecture: String,
    name: Option<String>,
    tensor_types: Vec<TensorTotal>,
    tensor_count: u64,
    parameters: u64,
    weight_bytes: u64,
    context_length: u32,
    embedding_length: u32,
    block_count: u32,
    head_count: u32,
    head_count_kv: u32,
    kv_bytes_per_token: u64,
    vocab_size: u32,
    ternary: Option<Ternary>,
    problem: Option<String>,
    metadata: Bound<'py, PyDict>,
}

#[pyfunction]
pub fn inspect_gguf(py: Python<'_>, path: PathBuf) -> PyResult<Summary<'_>> {
    let summary = py.detach(|| gguf::inspect(&path))?;
    let metadata = PyDict::new(py);
    for (key, value) in summary.metadata.iter() {
        metadata.set_item(key, metadata_value(py, value)?)?;
    }
    let total = |total: gguf::TensorTotal| TensorTotal { name: total.name, tensors: total.tensors, bytes: total.bytes };
    Ok(Summary {
        version: summary.version,
        file_bytes: summary.file_bytes,
        parts: summary.parts,
        architecture: summary.architecture,
        name: summary.name,
        tensor_types: summary.tensor_types.into_iter().map(total).collect(),
        tensor_count: summary.tensor_count,
        parameters: summary.parameters,
        weight_bytes: summary.weight_bytes,
        context_length: summary.dimensions.context_length,
        embedding_length: summary.dimensions.embedding_length,
        block_count: summary.dimensions.block_count,
        head_count: summary.dimensions.head_count,
        head_count_kv: summary.dimensions.head_count_kv,
        kv_bytes_per_token: summary.dimensions.kv_bytes_per_token,
        vocab_size: summary.vocab_size,
        ternary: summary.ternary.map(|ternary| Ternary {
            encoding: ternary.encoding,
            tensors: ternary.tensors,
            runs_as: ternary.runs_as,
            needs_transcoding: ternary.needs_transcoding,
            squared_relu: ternary.squared_relu,
        }),
        problem: summary.problem,
        metadata,
    })
}

/// Arrays appear as what the header says of them: type and length, and their items where these are kept.
fn metadata_value<'py>(py: Python<'py>, value: &MetaValue) -> PyResult<Bound<'py, PyAny>> {
    match value {
        MetaValue::Unsigned(number) => number.into_bound_py_any(py),
        MetaValue::Signed(number) => number.into_bound_py_any(py),
        MetaValue::Float(number) => number.into_bound_py_any(py),
        MetaValue::Bool(truth) => truth.into_bound_py_any(py),
        MetaValue::Text(text) => text.into_bound_py_any(py),
        MetaValue::Array { integers, .. } if !integers.is_empty() => integers.into_bound_py_any(py),
        MetaValue::Array { item, len, .. } => format!("{item}[{len}]").into_bound_py_any(py),
    }
}
