//! The state of one running request.
