"""Where on the Hub a mask lies."""

from __future__ import annotations

from dataclasses import dataclass


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
