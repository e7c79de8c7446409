"""Suites that every transport and backend must pass, for plugin authors too."""
