"""Self-replay: general data that a model writes itself, for models whose training data is closed."""

from __future__ import annotations

from hf_langcore.replay.generate import Replay, generate_general_data, generate_replay
from hf_langcore.replay.settings import SELF_REPLAY, ReplaySettings

__all__ = ["SELF_REPLAY", "Replay", "ReplaySettings", "generate_general_data", "generate_replay"]
