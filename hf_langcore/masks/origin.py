"""Where on the Hub a mask lies, and what can be a name there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTS = 2


@dataclass(frozen=True, slots=True)
class HubOrigin:
    """A repository at a commit.

    Attributes:
        repo_id: "owner/name".
        revision: The 40-hex commit.
    """

    repo_id: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo_id} at {self.revision}"


def is_repository_id(name: str) -> bool:
    """Whether `name` could be "owner/name" on the Hub and is no path: no such folder, no dots in front, no third part."""
    parts = name.split("/")
    is_id = len(parts) == _PARTS and all(parts) and not name.startswith((".", "~", "/")) and "\\" not in name
    return is_id and not Path(name).exists()


def is_commit(value: Any) -> bool:
    """Whether a value is a 40-hex commit; branches and tags may move."""
    return isinstance(value, str) and _COMMIT.fullmatch(value) is not None
