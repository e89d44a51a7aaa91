"""Every error that hf_langcore raises on purpose.

LangCoreError
├── InputError (ValueError)             an argument is wrong
│   ├── CorpusError                     texts are missing, empty, unreadable or too short
│   └── ConfigurationError              options contradict each other
├── CoreMaskMismatchError (ValueError)  a mask does not belong to this model, or two masks differ in shape
├── CoreMaskFormatError (ValueError)    a mask artifact is damaged, altered or of a newer format
├── UnsupportedModelError (ValueError)  a model, tokenizer or weight that cannot be handled, and why
├── NonFiniteError (ArithmeticError)    NaN or infinity came up where a number was needed
├── ModelChangedError (RuntimeError)    the model changed under an open edit or a freeze
├── ArtifactExistsError (FileExistsError)  an output would overwrite something
├── WriteError (OSError)                a file cannot be written: disk full, no right to
├── HubError (OSError)                  the Hub refused, failed or could not be reached
│   ├── HubAccessError                  not logged in, not allowed, or a gated repository
│   ├── HubNotFoundError                no such repository, revision or file
│   └── HubConflictError                somebody else has pushed meanwhile
└── MissingExtraError (ImportError)     an optional dependency is not installed

Each message says what was expected, what came and what to do. All derive from LangCoreError and from the
built-in exception that a caller who does not know this library would catch.
"""

from __future__ import annotations

from typing import Any


class LangCoreError(Exception):
    """Base class of all errors raised on purpose by hf_langcore."""


class InputError(LangCoreError, ValueError):
    """An argument is outside what the function takes."""


class CorpusError(InputError):
    """The texts of a language are missing, empty, unreadable or too short."""


class ConfigurationError(InputError):
    """Two options contradict each other, or one that is needed is missing."""


class CoreMaskMismatchError(LangCoreError, ValueError):
    """A core mask does not fit the model (names, shapes, weights) or another mask."""


class CoreMaskFormatError(LangCoreError, ValueError):
    """The files of a core mask are damaged, altered, incomplete or of a newer format."""


class UnsupportedModelError(LangCoreError, ValueError):
    """A model, tokenizer or parameter has a form that cannot be handled; the message says why."""


class NonFiniteError(LangCoreError, ArithmeticError):
    """NaN or infinity came up where a finite number was needed."""


class ModelChangedError(LangCoreError, RuntimeError):
    """The model changed while an edit or a freeze was relying on it.

    Attributes:
        handle: The edit that could not be restored, where it was one: `error.handle.restore(force=True)` writes the
            old values.
    """

    def __init__(self, message: str, *, handle: Any = None) -> None:
        super().__init__(message)
        self.handle = handle


class ArtifactExistsError(LangCoreError, FileExistsError):
    """Writing would overwrite an existing artifact."""


class WriteError(LangCoreError, OSError):
    """A file could not be written; what was there before is still there."""


class HubError(LangCoreError, OSError):
    """The Hub refused a request, failed, or could not be reached; nothing was changed.

    Attributes:
        repo_id: The repository.
        status: HTTP status of the answer, None where there was none.
    """

    def __init__(self, message: str, *, repo_id: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.repo_id = repo_id
        self.status = status


class HubAccessError(HubError):
    """The Hub does not know the user, does not allow it, or the repository is gated."""


class HubNotFoundError(HubError):
    """There is no such repository, revision or file, or none that this user may see."""


class HubConflictError(HubError):
    """The repository changed while something was being pushed to it."""


class MissingExtraError(LangCoreError, ImportError):
    """An optional dependency is not installed."""
