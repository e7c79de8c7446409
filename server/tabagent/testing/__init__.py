"""Suites that every transport and backend must pass, for plugin authors too."""

from __future__ import annotations

from .backend_contract import BackendContract, BackendSubject, Recording
from .loopback import LoopbackTransport, loopback_pair
from .scripted import ScriptedBackend, Submission
from .transport_conformance import TransportConformance, TransportPair

__all__ = [
    "BackendContract",
    "BackendSubject",
    "LoopbackTransport",
    "Recording",
    "ScriptedBackend",
    "Submission",
    "TransportConformance",
    "TransportPair",
    "loopback_pair",
]
