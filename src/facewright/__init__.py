"""From a folder of face photos to a trained, honestly measured, usable face classifier or verifier."""

__version__ = "0.1.0"
