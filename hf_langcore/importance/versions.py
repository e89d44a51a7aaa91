"""Versions of the libraries that figures depend on, for a provenance."""

from __future__ import annotations

from importlib import metadata

from hf_langcore._version import __version__


def library_versions() -> dict[str, str]:
    """Library -> installed version."""
    return {
        "hf_langcore": __version__,
        **{name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }
