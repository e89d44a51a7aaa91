"""The experiments of the paper and of the talk before it, about the core region."""

from __future__ import annotations
