"""Trainers without their bars and log lines, where a recipe says itself what happens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import datasets


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars of every preparation step, and no log lines about what a recipe does on purpose (a free core)."""
    loggers = [logging.getLogger(name) for name in ("hf_langcore", "transformers", "trl")]
    levels = [logger.level for logger in loggers]
    without_bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if not without_bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
