"""No token in any log, message, traceback, output or file, whatever the Hub answers; and nothing of this machine in what is pushed."""

from __future__ import annotations

import base64
import contextlib
import getpass
import logging
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from card_models import files_in, mask_of, rows, save_base
from peft import get_peft_model
from transformers import AutoModelForCausalLM, TrainingArguments
from typer.testing import CliRunner

from hf_langcore import CoreMask, PerplexityReport, load_eval_results, push_eval_results
from hf_langcore.cli.main import app
from hf_langcore.errors import HubError, LangCoreError
from hf_langcore.evaluation import LanguageScore
from hf_langcore.hub.fetch import commit_of
from hf_langcore.hub.search import list_core_masks
from hf_langcore.masks.storage import CONFIG_FILE
from hf_langcore.training import CoreRegionSFTConfig, CoreRegionSFTTrainer
from hf_langcore.tuner import CoreRegionConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:hf_langcore"),
]

BASE, CORE = "ada/base", "ada/core"
FAULTS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "401": {"kind": "status", "status": 401},
    "403": {"kind": "status", "status": 403},
    "429": {"kind": "status", "status": 429, "retry_after": 1},
    "500": {"kind": "status", "status": 500},
    "echo 403": {"kind": "echo", "status": 403},
    "echo 500": {"kind": "echo", "status": 500},
    "cut": {"kind": "drop"},
}
LIBRARIES = (
    "huggingface_hub",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "transformers",
    "peft",
    "trl",
    "hf_langcore",
    "",
)
# The answer's headers as they came, which a server may have filled with anything; below DEBUG they say nothing of headers.
TRANSPORTS = ("httpcore", "httpcore2")


def forms_of(token: str) -> dict[str, bytes]:
    """What a token may look like: as it is, in an address, and in base64 wherever it may begin."""
    found = {"plain": token.encode(), "quoted": quote(token, safe="").encode(), "hex": token.encode().hex().encode()}
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + token.encode())
        found[f"base64 {shift}"] = coded[4:-4]  # the ends depend on the neighbours
    return found


def require_none(where: str, content: bytes | str, token: str) -> None:
    """Assert that a token stands nowhere in a text, in no form."""
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    for form, value in forms_of(token).items():
        assert value not in data, f"the token ({form}) stands in {where}"


class Listener(logging.Handler):
    """Remembers every record of every logger, its arguments and exceptions included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name} {record.levelname}: {record.getMessage()} {record.args!r}"
        self.said.append(text + (logging.Formatter().formatException(record.exc_info) if record.exc_info else ""))


@pytest.fixture
def listener() -> Iterator[Listener]:
    """All loggers of all libraries, from DEBUG on."""
    heard = Listener()
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(heard)
    yield heard
    for logger, level, propagate in before:
        logger.removeHandler(heard)
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def here(online: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model and a mask on the Hub, and an empty folder to work in."""
    monkeypatch.setenv("CI", "1")  # TRL sends no telemetry
    save_base(tmp_path / "base")
    sha = online.hub.create(BASE, files=files_in(tmp_path / "base"))
    mask_of(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), name=BASE, revision=sha).save_pretrained(
        tmp_path / "mask"
    )
    online.hub.create(CORE, files=files_in(tmp_path / "mask"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def given(online: Any, how: str, token: str) -> str | None:
    """Hand over a token in one of three ways; what is left to pass as an argument."""
    online.login(None)
    (online.home / "token").unlink(missing_ok=True)
    if how == "variable":
        online.login(token)
    elif how == "file":
        online.home.mkdir(exist_ok=True)
        (online.home / "token").write_text(token)
    return token if how == "argument" else None


def report() -> PerplexityReport:
    scores = {"en": LanguageScore(2.0, 100), "zh": LanguageScore(3.0, 50)}
    return PerplexityReport(
        {"base": scores}, settings={"model": BASE, "text_sha256": "a" * 64, "edits": [], "adapters": []}
    )


def operations(mask: CoreMask, token: str | None, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything public of ours that talks to the Hub."""
    report().to_json(folder / "report.json")

    def command(*arguments: str) -> Callable[[], object]:
        def run() -> str:
            done = CliRunner().invoke(app, arguments)
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                raise done.exception
            return done.output

        return run

    found: dict[str, Callable[[], object]] = {
        "push a mask": lambda: mask.push_to_hub("ada/new-core", results=report(), token=token),
        "push to somebody else": lambda: mask.push_to_hub("bob/core", token=token),
        "pull a mask": lambda: CoreMask.from_pretrained(CORE, token=token, force_download=True),
        "pull what is not there": lambda: CoreMask.from_pretrained("ada/nothing", token=token),
        "push results": lambda: push_eval_results(report(), "ada/results", token=token),
        "load results": lambda: load_eval_results("ada/results", token=token),
        "search": lambda: list_core_masks(BASE, token=token),
        "find a commit": lambda: commit_of(BASE, token=token),
    }
    if token is None:  # the command line takes no token as an argument, where every user of the machine could see it
        found |= {
            "langcore push": command("push", str(folder / "mask"), "ada/by-command"),
            "langcore push a report": command("push", str(folder / "report.json"), "ada/results"),
            "langcore pull": command("pull", CORE, "-o", str(folder / "pulled"), "--overwrite"),
            "langcore pull --base": command("pull", "--base", BASE),
        }
    return found


def strike(online: Any, fault: dict[str, Any] | None) -> None:
    online.hub.calm()
    if fault is not None:
        options = dict(fault)
        online.hub.fault(options.pop("kind"), times=None, **options)


@pytest.mark.parametrize("how", ["argument", "variable", "file"])
def test_no_operation_tells_a_token(
    online: Any, here: Path, listener: Listener, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    """Every operation under every fault: messages, causes, notes, logs, output, the cache, and what was pushed."""
    token = online.hub.tokens.write
    mask = CoreMask.from_pretrained(here / "mask")
    argument = given(online, how, token)
    outcomes: dict[str, set[str]] = {}
    for fault, options in FAULTS.items():
        strike(online, options)
        online.use_cache(here / f"cache-{len(outcomes)}")
        given(online, how, token)
        for name, operation in operations(mask, argument, here).items():
            try:
                require_none(f"what {name} returns", repr(operation()), token)
                outcomes.setdefault(fault, set()).add("done")
            except LangCoreError as error:
                require_none(f"the error of {name}, fault {fault}", "".join(traceback.format_exception(error)), token)
                require_none(f"the attributes of {name}'s error", repr(vars(error)), token)
                outcomes.setdefault(fault, set()).add(type(error).__name__)
    strike(online, None)
    out, err = capfd.readouterr()
    require_none("standard output", out, token)
    require_none("standard error", err, token)
    heard = [line for line in listener.said if not line.startswith(TRANSPORTS)]
    assert len(heard) > 100
    for line in heard:
        require_none(f"the log: {line[:60]}", line, token)
    require_clean_places(online, here, token)
    assert "done" in outcomes["none"]
    assert all(outcomes[fault] & {"HubError", "HubAccessError"} for fault in FAULTS if fault != "none"), outcomes


def require_clean_places(online: Any, folder: Path, token: str) -> None:
    """No token in any file below a folder but the one that stores it, nor in any repository."""
    looked = 0
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "token":
            require_none(str(path), path.read_bytes(), token)
            looked += 1
    for kind, repo_id in online.hub.repos():
        for name, content in online.hub.files(repo_id, kind=kind).items():
            require_none(f"{name} of {repo_id}", content, token)
            looked += 1
        for commit in online.hub.commits(repo_id, kind=kind):
            require_none(f"a commit of {repo_id}", repr(commit), token)
    assert looked > 20


ODD = ("hf_line\nbreak0123456789", "hf_tab\tand space 0123456789", "hf_ünïcödé0123456789", "hf_0123456789\r\nX-Evil: 1", "\u2028hf_0123456789", "hf_nul\x000123456789")  # fmt: skip


@pytest.mark.parametrize("how", ["argument", "file"])
@pytest.mark.parametrize("token", ODD, ids=["line", "space", "accents", "header", "separator", "null"])
def test_tokens_that_are_none(online: Any, here: Path, listener: Listener, how: str, token: str) -> None:
    """HTTP cannot send them, and its errors would print them: refused or sent without, and never shown."""
    mask = CoreMask.from_pretrained(here / "mask")
    argument = given(online, how, token)
    listener.said.clear()
    for name, operation in operations(mask, argument, here).items():
        with contextlib.suppress(LangCoreError):
            try:
                operation()
            except LangCoreError as error:
                text = "".join(traceback.format_exception(error))
                for part in {token, *(word for word in token.split() if len(word) > 8)}:
                    assert part not in text, name
                    assert repr(part)[1:-1] not in text, name
                raise
    for line in listener.said:
        assert token not in line
        assert repr(token)[1:-1] not in line


CHILD = """
import logging, sys, traceback, warnings
logging.basicConfig(level=logging.INFO)
warnings.simplefilter("ignore")
token = sys.stdin.readline().strip() or None
folder = sys.argv[1]
from hf_langcore import CoreMask, load_eval_results, push_eval_results
from hf_langcore.cli.main import main
from hf_langcore.hub.search import list_core_masks
mask = CoreMask.from_pretrained(folder + "/mask")
for operation in (
    lambda: mask.push_to_hub("ada/child", token=token),
    lambda: CoreMask.from_pretrained("ada/core", token=token),
    lambda: push_eval_results(folder + "/report.json", "ada/child-results", token=token),
    lambda: load_eval_results("ada/child-results", token=token),
    lambda: list_core_masks("ada/base", token=token),
):
    try:
        print(operation())
    except Exception:
        traceback.print_exc()
for arguments in (["push", folder + "/mask", "ada/child"], ["pull", "ada/core", "-o", "p", "--overwrite"], ["pull", "--base", "ada/base"]):
    sys.argv = ["langcore", *arguments]
    try:
        main()
    except SystemExit as end:
        print("exit", end.code)
mask.push_to_hub("ada/child", token=token)
"""


@pytest.mark.parametrize("fault", ["none", "echo 403"])
def test_what_a_process_prints(online: Any, here: Path, run_online: Any, fault: str) -> None:
    """Everything on both streams, uncaught errors and the command line's messages included."""
    token = online.hub.tokens.write
    report().to_json(here / "report.json")
    strike(online, FAULTS[fault] and {**FAULTS[fault], "retry_after": 0})
    done = run_online(CHILD, str(here), token=token, check=False, environment={"PYTHONWARNINGS": "ignore"})
    strike(online, None)
    assert done.returncode == (0 if fault == "none" else 1)
    assert ("exit 0" if fault == "none" else "exit 1") in done.stdout
    require_none("standard output", done.stdout, token)
    require_none("standard error", done.stderr, token)


STEP: dict[str, Any] = {"max_steps": 1, "per_device_train_batch_size": 1, "use_cpu": True, "report_to": [], "bf16": False, "gradient_checkpointing": False}  # fmt: skip


@pytest.mark.parametrize("adapter", [False, True], ids=["frozen core", "adapter"])
def test_training_with_a_token(
    online: Any, here: Path, listener: Listener, capfd: pytest.CaptureFixture[str], adapter: bool
) -> None:
    """`hub_token=` is used, and is in no file: pickles, states, logs, checkpoints, cards."""
    token = online.hub.tokens.write
    online.login(None)
    mask = CoreMask.from_pretrained(here / "mask")
    args = CoreRegionSFTConfig(
        "out", push_to_hub=True, hub_token=token, hub_strategy="every_save", save_steps=1, hub_model_id="ada/tuned", **STEP
    )  # fmt: skip
    given_mask: dict[str, Any] = {"core_mask": mask}
    if adapter:
        given_mask = {"peft_config": CoreRegionConfig(core_mask=mask, r=2, task_type="CAUSAL_LM")}
    trainer = CoreRegionSFTTrainer(str(here / "base"), args, train_dataset=rows(), **given_mask)
    trainer.train()
    trainer.push_to_hub()
    assert {"README.md", "training_args.bin"} <= set(online.hub.files("ada/tuned"))
    assert args.hub_token == token
    require_clean_places(online, here, token)
    out, err = capfd.readouterr()
    for place, text in (("output", out), ("errors", err), ("the arguments", f"{args!r}{args}{args.to_json_string()}")):
        require_none(place, text, token)
    for line in listener.said:
        require_none(f"the log: {line[:60]}", line, token)


def test_what_transformers_itself_would_upload(tmp_path: Path) -> None:
    """Its own arguments are pickled with the token: the docs say so, and `langcore push` leaves that file out."""
    token = "hf_" + "a1B2" * 8
    plain = pickle.dumps(TrainingArguments(str(tmp_path), hub_token=token, use_cpu=True, report_to=[]))
    ours = pickle.dumps(CoreRegionSFTConfig(str(tmp_path), hub_token=token, use_cpu=True, report_to=[], bf16=False))
    assert token.encode() in plain, "transformers leaves it out now: the docs can say so"
    require_none("training_args.bin", ours, token)


def test_nothing_of_this_machine_is_pushed(online: Any, here: Path, tokenizer: Any) -> None:
    """A mask and figures of a model in a folder: no path, no user, no host in the card, the config and the results."""
    model = AutoModelForCausalLM.from_pretrained(here / "base")
    mask = mask_of(model, name=str(here / "base"), revision=None)
    scores = {"en": LanguageScore(2.0, 100)}
    settings = {"model": str(here / "base"), "text_sha256": "a" * 64, "edits": [], "adapters": []}
    mask.push_to_hub("ada/from-folder", base_model=BASE, base_revision=online.hub.commits(BASE)[0]["sha"])
    push_eval_results(PerplexityReport({"base": scores}, settings=settings), "ada/figures", model=BASE)
    peft_model = get_peft_model(model, CoreRegionConfig(core_mask=mask, r=2, task_type="CAUSAL_LM"))
    peft_model.base_model.push_to_hub("ada/adapter")
    words = [str(here), str(Path.home()) if str(Path.home()) != "/" else str(here), socket.gethostname()]
    words += [f"/{getpass.getuser()}/"]
    for name in ("ada/from-folder", "ada/figures", "ada/adapter"):
        for file, content in online.hub.files(name).items():
            # What PEFT calls the base, and the mask beside it, name the folder that the base was loaded from: see the docs.
            if not file.endswith((".json", ".md")) or (
                name == "ada/adapter" and file not in {"README.md", "core_mask_ref.json"}
            ):
                continue
            for word in words:
                assert word.encode() not in content, f"{word} stands in {file} of {name}"
    assert CONFIG_FILE in online.hub.files("ada/from-folder")
    with pytest.raises((LangCoreError, HubError)):
        mask.push_to_hub("ada/no-name")


def test_the_search_for_tokens_finds_them() -> None:
    """Each form, also inside other words, so that the tests above mean something."""
    token = "hf_" + "a1B2" * 8
    for hidden in (
        token,
        quote(token),
        base64.b64encode(b"user:" + token.encode()).decode(),
        base64.b64encode(token.encode()).decode(),
        token.encode().hex(),
    ):
        with pytest.raises(AssertionError, match="the token"):
            require_none("here", f"before{hidden}after", token)
    require_none("here", token[:-1], token)
