//! Charges a template for containers before they are written out or compared.
//!
//! Sixty nested lists, each holding the one before it twice, take a few kilobytes as values and more than any memory
//! as text. The template engine charges for what it has made; here what is about to be made is charged first.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter, filters, tests};
use minijinja_contrib::pycompat::unknown_method_callback;

type Result<T> = std::result::Result<T, Error>;

/// Bytes that one unit of fuel pays for.
const BYTES_PER_FUEL: u64 = 64;
/// What a value costs that is no text.
const VALUE_COST: u64 = BYTES_PER_FUEL;

/// Replaces what writes values out or compares them by the same with a price.
pub(super) fn guard(environment: &mut Environment<'static>) {
    environment.set_formatter(write);
    environment.set_unknown_method_callback(call_method);
    for (name, filter) in [
        ("capitalize", Value::from_function(filters::capitalize)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("format", Value::from_function(filters::format)),
        ("groupby", Value::from_function(filters::groupby)),
        ("join", Value::from_function(filters::join)),
        ("lower", Value::from_function(filters::lower)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("pprint", Value::from_function(filters::pprint)),
        ("replace", Value::from_function(filters::replace)),
        ("safe", Value::from_function(filters::safe)),
        ("sort", Value::from_function(filters::sort)),
        ("string", Value::from_function(filters::string)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
    ] {
        environment.add_filter(name, move |state: &mut State, values: Rest<Value>| {
            charge(state, &values, 0)?;
            filter.call(state, &values)
        });
    }
    for (names, test) in [
        (&["eq", "equalto", "=="][..], Value::from_function(tests::is_eq)),
        (&["ne", "!="], Value::from_function(tests::is_ne)),
        (&["lt", "lessthan", "<"], Value::from_function(tests::is_lt)),
        (&["le", "<="], Value::from_function(tests::is_le)),
        (&["gt", "greaterthan", ">"], Value::from_function(tests::is_gt)),
        (&["ge", ">="], Value::from_function(tests::is_ge)),
        (&["in"], Value::from_function(tests::is_in)),
    ] {
        for name in names {
            let test = test.clone();
            environment.add_test(*name, move |state: &mut State, values: Rest<Value>| -> Result<bool> {
                charge(state, &values, 0)?;
                Ok(test.call(state, &values)?.is_true())
            });
        }
    }
}

/// Pays for `values` as they would be written out, and for some bytes more.
pub(super) fn charge(state: &State, values: &[Value], bytes: u64) -> Result<()> {
    let (_, fuel) = state.fuel_levels().unwrap_or((0, u64::MAX));
    let budget = fuel.saturating_mul(BYTES_PER_FUEL);
    let mut left = budget.checked_sub(bytes).ok_or(ErrorKind::OutOfFuel)?;
    values.iter().try_for_each(|value| measure(value, &mut left))?;
    state.consume_fuel((budget - left) / BYTES_PER_FUEL)
}

fn measure(value: &Value, left: &mut u64) -> Result<()> {
    let size = value.as_str().map_or(VALUE_COST, |text| text.len() as u64);
    *left = left.checked_sub(size).ok_or(ErrorKind::OutOfFuel)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| measure(&item, left)),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            measure(&key, left)?;
            measure(&value.get_item(&key)?, left)
        }),
        _ => Ok(()),
    }
}

fn write(output: &mut Output, state: &mut State, value: &Value) -> Result<()> {
    // The output itself is paid for already.
    if value.as_str().is_none() {
        charge(state, std::slice::from_ref(value), 0)?;
    }
    escape_formatter(output, state, value)
}

/// Python's methods, of which some make much out of little.
fn call_method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value> {
    if let Some(text) = value.as_str() {
        charge(state, arguments, made_of(text, method, arguments))?;
    }
    unknown_method_callback(state, value, method, arguments)
}

/// An upper bound of the bytes that a method makes of a text, or looks at.
fn made_of(text: &str, method: &str, arguments: &[Value]) -> u64 {
    let length = text.len() as u64;
    let argument = |index: usize| arguments.get(index).and_then(Value::as_str).unwrap_or_default();
    let times = |count: u64, bytes: usize| count.saturating_mul(bytes as u64);
    length.saturating_add(match method {
        "replace" if argument(0).is_empty() => times(length + 1, argument(1).len()),
        "replace" => times(text.matches(argument(0)).count() as u64, argument(1).len()),
        "join" => times(arguments.first().and_then(Value::len).unwrap_or(0) as u64, text.len()),
        // Each number may be a width.
        "format" => text
            .split(|character: char| !character.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .fold(0, |sum: u64, number| sum.saturating_add(number.parse().unwrap_or(u64::MAX))),
        // A list of that many short texts.
        "split" | "splitlines" => length.saturating_mul(BYTES_PER_FUEL / 2),
        _ => 0,
    })
}
