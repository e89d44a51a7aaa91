"""Trainers without bars and log lines."""

from __future__ import annotations

import logging

import datasets
import pytest

from hf_langcore.recipes.quiet import quiet_transformers


def test_levels_and_bars_come_back() -> None:
    """Within, only errors are logged and bars are off; afterwards all is as before, also after an error."""
    loggers = [logging.getLogger(name) for name in ("hf_langcore", "transformers", "trl")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    inside = []

    def fail() -> None:
        with quiet_transformers():
            inside.append((*(logger.level for logger in loggers), datasets.are_progress_bars_disabled()))
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert inside == [(logging.ERROR, logging.ERROR, logging.ERROR, True)]
    assert [logger.level for logger in loggers] == levels
    assert datasets.are_progress_bars_disabled() == bars


def test_bars_that_were_off_stay_off() -> None:
    """The recipe does not switch on what a user switched off."""
    was_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with quiet_transformers():
            pass
        assert datasets.are_progress_bars_disabled()
    finally:
        if not was_off:
            datasets.enable_progress_bars()
