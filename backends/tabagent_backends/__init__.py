"""Backends for TabAgent."""
