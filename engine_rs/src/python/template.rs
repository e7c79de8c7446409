//! `render_template` in Python: a chat template over any JSON-like variables.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::invalid;
use crate::template::{self, Limits};

#[pyfunction]
#[pyo3(signature = (template, messages, **context))]
pub fn render_template(
    py: Python<'_>,
    template: &str,
    messages: &Bound<'_, PyAny>,
    context: Option<&Bound<'_, PyDict>>,
) -> PyResult<String> {
    let variables = context.map_or_else(|| Ok(PyDict::new(py)), Bound::copy)?;
    variables.set_item("messages", messages)?;
    let variables = to_json(&variables)?;
    Ok(py.detach(|| template::render(template, &variables, Limits::default()))?)
}

fn to_json(value: &Bound<'_, PyAny>) -> PyResult<serde_json::Value> {
    let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
    serde_json::from_str(&text).map_err(|error| invalid("messages", error.to_string()).into())
}
