//! Renders chat templates in a sandbox with fuel and output limits.
