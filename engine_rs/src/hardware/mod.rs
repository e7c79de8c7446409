//! What the CPU can do, and which runtime and CPU module may run on it.
