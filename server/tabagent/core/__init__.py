"""The transport-agnostic core: events, requests, errors, and what moves them."""
