"""One of the processes of a distributed test: runs scenarios one after the other and writes what it saw.

python worker.py FOLDER SCENARIO[:bf16] ...
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from scenarios import SCENARIOS
from strategies import force_fsdp2_on_cpu
from transformers.utils import logging


def main() -> None:
    """Run the scenarios, each in its own folder; the reports of this process go into one file."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        force_fsdp2_on_cpu()
    folder, reports = Path(sys.argv[1]), {}
    for asked in sys.argv[2:]:
        name, _, precision = asked.partition(":")
        begin = time.monotonic()
        reports[asked] = SCENARIOS[name](folder / asked.replace(":", "-"), bf16=precision == "bf16")
        reports[asked]["seconds"] = round(time.monotonic() - begin, 1)
        text = json.dumps(reports)
        (folder / f"rank-{os.environ['RANK']}.json").write_text(text, encoding="utf-8")
        if os.environ["RANK"] == "0":
            print(asked, reports[asked], flush=True)  # noqa: T201 shown where a test fails
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
