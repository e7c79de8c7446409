//! The Python module `tabagent_engine._native`: the only file that names `PyO3`.
