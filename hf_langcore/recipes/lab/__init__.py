"""The language lab: what models know of syntax, how they align languages, compress, switch between them, and learn."""

from __future__ import annotations
