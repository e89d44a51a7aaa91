"""The code in a mask's card, executed by somebody who has nothing but the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from card_checks import check_card, snippets
from card_models import BASE, files_in, mask_of, save_base
from transformers import AutoModelForCausalLM

from hf_langcore.hub.card import mask_card

CHECK = """
import contextlib, io, json, sys
for number, code in enumerate(json.loads(sys.argv[1])):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, f"snippet {number}", "exec"), space := {"__name__": f"snippet_{number}"})
    print(json.dumps(said.getvalue()))
    if "trainer" in space:
        assert space["trainer"].state.global_step == 2
        assert not sum(space["trainer"].protection.freeze.freezer.changed().values())
        assert space["trainer"].protection.core_mask.count() > 0
    if "core_mask" in space:
        assert space["core_mask"].digest() == sys.argv[2]
"""


def test_all_of_it_runs(loopback_hub: Any, run_online: Any, tmp_path: Path) -> None:
    """Scoring and perturbing, an adapter, and training with a frozen core, in a process with an empty cache."""
    import json

    base = save_base(tmp_path / "base")
    sha = loopback_hub.create(BASE, files=files_in(base))
    loopback_hub.commit(BASE, {"config.json": "{}"})  # the newest state is broken; the card names the one that works
    mask = mask_of(AutoModelForCausalLM.from_pretrained(base), revision=sha)
    mask.save_pretrained(tmp_path / "mask")
    content = mask_card(mask, repo_id="org/mask", license="mit")
    check_card(content, private=tmp_path)
    loopback_hub.create("org/mask", files={**files_in(tmp_path / "mask"), "README.md": content})
    published = loopback_hub.files("org/mask")["README.md"].decode()
    done = run_online(CHECK, json.dumps(snippets(published)), mask.digest())
    perturbing, adapting, _ = map(json.loads, done.stdout.strip().splitlines()[-3:])
    plain, zeroed = (float(line.rsplit(": ", 1)[1].rstrip("}")) for line in perturbing.strip().splitlines()[-2:])
    assert plain != zeroed
    assert "protected params: " in adapting
