"""A pytest plugin that makes PEFT's own tests of LoRA run CORE_REGION instead. `peft_suite.py` starts it.

Three things happen:

- While a module of the suite is imported, `rewriting` replaces LoRA's names. Lists of parametrised cases are made by
  code of that module, so they hold the replacement from the start. `LoraConfig` becomes `LoraAsCoreRegion`, which makes
  CoreRegionConfig objects with `method=` and `fraction=` in addition to what LoRA and CORE_REGION share.
- After collection, cases of other PEFT methods and tests that never name LoRA are left out, and what cannot apply to a
  masked additive method is left out with its reason (NOT_APPLICABLE, and LoRA options that CORE_REGION does not have).
- While tests run, their outcomes are written as JSON lines. A test that passes without making one CORE_REGION config or
  adapter says nothing about the method; it is recorded as "unrelated" and not counted as passed.

Which branch of a test is taken where it asks for the method:

- `config_cls == LoraConfig`, `in (LoraConfig, ...)`, `isinstance(config, LoraConfig)`, `issubclass(...)`: LoRA's, since
  the method promises what LoRA does: merging, Conv1D, mixed batches, weighted adapters, several adapters.
- `isinstance(module, LoraLayer)`, `lora.ParamWrapper`: the layers of CORE_REGION; asked for by their role, so that a test
  fails, and is not left out, where there is no such layer yet.
- `peft_type.value == "LORA"` around the model card's tag "lora": not LoRA's. The tag tells the Hub that tools for LoRA
  files can read the adapter, which they cannot. The lists of expected tags lose "lora" for the same reason.
- `config.peft_type in {..., "LORA"}` around a wider tolerance for convolutions: not LoRA's; the stricter one.
- `"lora_A" in name`, `prefix = {LoraConfig: "lora_"}`, `peft_types == {"default": "LORA"}`: the method's own names.
- skip_deberta_lora_tests goes by the name of the config class: not LoRA's, so that the test runs instead of being skipped.
- A LoRA option that CORE_REGION does not have: left at LoRA's default it is dropped, otherwise the case does not apply.

Settings come from environment variables: CONFORMANCE_SUITE (folder with tests/), CONFORMANCE_METHOD ("random",
"magnitude", or "lora" for the suite as it is), CONFORMANCE_FRACTION and CONFORMANCE_OUTCOMES (file to write).
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import pytest
from _pytest.assertion.rewrite import rewrite_asserts
from peft import LoraConfig, PeftConfig
from peft.tuners import lora as _peft_lora
from rewriting import Names, rewritten

import hf_langcore.tuner
from hf_langcore.tuner import CoreRegionConfig, CoreRegionLayer, CoreRegionModel

SUITE = Path(os.environ.get("CONFORMANCE_SUITE", "."))
METHOD = os.environ.get("CONFORMANCE_METHOD", "random")
FRACTION = float(os.environ.get("CONFORMANCE_FRACTION", "0.3"))
OUTCOMES = os.environ.get("CONFORMANCE_OUTCOMES", "")
BASELINE = METHOD == "lora"
"""Run the suite as it is: what fails then is due to the stand-in for the Hub or the versions, not to CORE_REGION."""

NOT_APPLICABLE: list[tuple[str, str]] = [
    (
        r"TestDefaultTargetModules",
        "target_modules=None means all linear layers that the mask covers, not a table by model type",
    ),
    (r"TestLoraNestedConfigRoundTrip", "sub-configs of LoRA's variants"),
    (r"test_save_pretrained_with_runtime_config", "runtime_config is LoRA's (offloading while DoRA initialises)"),
    (r"test_from_pretrained_cache_dir", "needs the Hub: downloads into an empty cache"),
    (
        r"test_module_matching_lora|ModuleNames::test_realistic_example",
        "target_modules=None means all linear layers that the mask covers, not a table by model type",
    ),
    (r"test_prefixes_select_correct_state_dict_keys", "lists LoRA's two keys of a layer; there is a third, the mask"),
    (r"TestDisableInputDtypeCasting", "hooks on the modules that LoRA's factors are; here they are parameters"),
    (
        r"test_qwen3_moe_|test_mixtral_|test_qwen_v4_",
        "PEFT converts configs and weights of fused experts for LoRA only",
    ),
    (r"TestModelAndLayerStatus::test_transformers_model", "needs the Hub: counts the parameters of a real model"),
    (r"test_save_pretrained_auto\[peft_config0-True\]", "needs the Hub: asks it for the size of the vocabulary"),
    (r"test_causal_lm_(?!training_(trainer|pytorch)_compile).*_compile", "needs a GPU: 4-bit weights, compiled"),
    (r"TestHotSwapping", "peft.utils.hotswap is written for LoRA layers"),
    (r"TestScalingAdapters", "peft.helpers.rescale_adapter_scale is written for LoRA layers"),
    (r"test_alt_weight_tying_tied_model", "the warning tells of ensure_weight_tying, an option of LoRA"),
    (r"test_custom_models_dont_have_transformers_tag", "expects tags, and the only tag of such a model is LoRA's"),
    (r"test_save_pretrained_warns_for_unsharded_state_dict", "PEFT looks for keys of LoRA"),
    (r"test_rank_pattern_for_moe_target_parameters", "LoRA lays the factors of all experts out as one matrix"),
    (
        r"test_target_multiple_parameters_on_same_module|test_target_parameter_result_caching_works",
        "counts the calls of LoRA's own parametrisation",
    ),
    (r"TestDynamicDispatch", "user-defined layer classes are a feature of LoraConfig"),
    (
        r"test_mixed_model_from_pretrained|test_mixed_model_raises|duplicate_name_without_mutation\[True\]|\[PeftMixedModel\]",
        "PeftMixedModel takes a fixed list of PEFT's own methods",
    ),
]
"""Parts of test ids -> why such a test cannot apply."""

OTHER_BASE: list[str] = [
    r"TestRequiresGrad::test_loading_",
    r"test_load_does_not_overwrite_similarly_named_sibling",
    r"test_ignore_mismatched_sizes_with_scalar_modules_to_save",
    r"test_loading_multiple_adapters_with_target_parameters_works",
    r"test_save_and_load_base_model_revision",
]
"""Tests that put an adapter, or a config whose mask was computed, on a base model with other random weights. A core is
tied to weights, so this is refused by default; these tests run with base_check="off"."""

SMALLER_CORE: dict[str, float] = {
    # Asserts the values of a 2x2 weight of which LoRA changes every entry; this core has 0 entries.
    r"test_target_parameters_works_with_existing_parametrization": 0.1,
    # LoRA itself moves B by 1.3e-4 where 1e-4 is asked for, and by less with other seeds; again 0 entries.
    r"test_only_params_are_updated\[Embedding \+ transformers Conv1D 2": 0.001,
}
"""Tests whose numbers leave no room for a core of 30 % -> the fraction that they run with."""

_NEEDS_LAYER = re.compile(r"is an? (Conv1d|Conv2d|Conv3d|MultiheadAttention|LSTM|GRU), which is not supported")
_NEEDS_HUB = re.compile(
    r"LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled|couldn't connect to 'https://hugg"
)
_NAMES_LORA = re.compile(r"\bLoraConfig\b|internal-testing/\S*lora")

_used = False
_running = ""
"""Id of the running test; empty while tests are collected."""


# --- The config ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NotApplicable:
    """Stands in a list of cases for a config that CORE_REGION cannot have."""

    reason: str


class NotApplicableError(Exception):
    """A LoRA option has no counterpart."""


def translated(options: dict[str, Any]) -> dict[str, Any]:
    """LoRA's options as CoreRegionConfig's.

    Raises:
        NotApplicableError: One of them has no counterpart and is not left at LoRA's default.
    """
    known = {item.name for item in fields(CoreRegionConfig)}
    defaults = {item.name: _default(item) for item in fields(LoraConfig)}
    result = {}
    for name, value in options.items():
        if name == "init_lora_weights":
            if not isinstance(value, bool):
                raise NotApplicableError(f"init_lora_weights={value!r} is an initialisation of LoRA")
            result["init_weights"] = value
        elif name in known or name not in defaults:
            result[name] = value  # a name that nobody knows gets its TypeError from the config
        elif value != defaults[name]:
            raise NotApplicableError(f"{name} is an option of LoRA that CORE_REGION does not have")
    if not {"core_mask", "method"} & result.keys():
        fractions = [fraction for part, fraction in SMALLER_CORE.items() if re.search(part, _running)]
        result |= {"method": METHOD, "fraction": (fractions or [FRACTION])[0]}
    if any(re.search(part, _running) for part in OTHER_BASE):
        result["base_check"] = "off"
    return result


def _default(item: Any) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


class _AsCoreRegion(type(CoreRegionConfig)):  # type: ignore[misc]
    """Makes a class that is equal to CoreRegionConfig wherever a test asks, and builds objects of it."""

    def __call__(cls, **options: Any) -> Any:
        try:
            return CoreRegionConfig(**translated(options))
        except NotApplicableError as error:
            if not _running:
                return NotApplicable(str(error))
            pytest.skip(f"not applicable: {error}")

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, CoreRegionConfig)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, CoreRegionConfig)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is CoreRegionConfig

    def __hash__(cls) -> int:
        return hash(CoreRegionConfig)


class LoraAsCoreRegion(CoreRegionConfig, metaclass=_AsCoreRegion):
    """What the tests import as LoraConfig."""

    __signature__ = inspect.signature(CoreRegionConfig)


LoraAsCoreRegion.__name__ = LoraAsCoreRegion.__qualname__ = CoreRegionConfig.__name__
for _name, _ in inspect.getmembers(CoreRegionConfig, inspect.ismethod):  # loading makes the real class
    setattr(LoraAsCoreRegion, _name, getattr(CoreRegionConfig, _name))


# --- The other names -------------------------------------------------------------------------------------------------


class _NoSuchLayer:
    """Stands for a layer that the tuner does not have (yet): nothing is an instance of it."""


def layer_class(role: str) -> type:
    """The tuner's layer class whose name contains `role`."""
    found = [kind for kind in _subclasses(CoreRegionLayer) if role in kind.__name__]
    return found[0] if found else _NoSuchLayer


def _subclasses(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


Layer = CoreRegionLayer
Model = CoreRegionModel
LinearLayer = layer_class("Linear")
EmbeddingLayer = layer_class("Embedding")
ParameterLayer = layer_class("Param")
Parametrization = getattr(sys.modules[ParameterLayer.__module__], "_Effective", _NoSuchLayer)


class _LoraModule:
    """What the tests import as the module `peft.tuners.lora`; names without a counterpart stay PEFT's."""

    LoraLayer = Layer
    LoraModel = Model
    Linear = LinearLayer
    Embedding = EmbeddingLayer
    ParamWrapper = ParameterLayer

    _LoraFactorsProxy = Parametrization

    @property
    def layer(self) -> _LoraModule:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(_peft_lora, name)


lora_module = _LoraModule()


def _factor(name: str) -> str:
    """Our container for LoRA's `lora_<name>`; embeddings may or may not have containers of their own."""
    own = f"{CoreRegionModel.prefix}{name}"
    shared = f"{CoreRegionModel.prefix}{name[-1]}"
    return own if any(own in kind.adapter_layer_names for kind in (Layer, *_subclasses(Layer))) else shared


def names_for(module: str) -> Names:
    """The counterparts of LoRA's names in one module of the suite."""
    full = {role: f"{kind.__module__}.{kind.__qualname__}" for role, kind in _ROLES.items()}
    words = {
        "lora": "core_region",
        "lora_": CoreRegionModel.prefix,
        "LORA": "CORE_REGION",
        "LoraModel": CoreRegionModel.__name__,
        **{f"lora.{role}": f"core_region.{kind.__name__}" for role, kind in _ROLES.items()},
        **{f"peft.tuners.lora.layer.{role}": name for role, name in full.items()},
    }
    if module == "testing_common":
        del words["LORA"]  # the tag of the model card and a tolerance; see above
    if module == "test_hub_features":
        words["lora"] = "transformers"  # the expected tags of the model card, which has this one in any case
    classes = {
        "LoraConfig": "LoraAsCoreRegion",
        "LoraModel": "Model",
        "LoraLayer": "Layer",
        "ParamWrapper": "ParameterLayer",
        "_LoraFactorsProxy": "Parametrization",
        "lora": "lora_module",
        "peft.tuners.lora.layer": "lora_module",
    }
    return Names(
        provider=__name__, package="peft", classes=classes, prefix=CoreRegionModel.prefix, words=words, factor=_factor
    )


_NO_DIFFUSERS = {"StableDiffusionPipeline": "StableDiffusionPipeline", "diffusers": "no_diffusers"}
_WITHOUT_DIFFUSERS = Names(
    provider=__name__,
    package="diffusers",
    classes={} if importlib.util.find_spec("diffusers") else _NO_DIFFUSERS,
)
_ROLES = {"Linear": LinearLayer, "Embedding": EmbeddingLayer, "ParamWrapper": ParameterLayer}


# --- Importing the suite ---------------------------------------------------------------------------------------------


class _SuiteFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of the suite, so that they are rewritten; also its helper modules."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Modules of `tests`, which is the suite's package."""
        file = SUITE / "tests" / f"{fullname.rpartition('.')[2]}.py"
        if not fullname.startswith("tests.") or not file.is_file():
            return None
        loader = _SuiteLoader(fullname, str(file), self._config)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


class _SuiteLoader(importlib.machinery.SourceFileLoader):
    """Rewrites a module."""

    def __init__(self, fullname: str, path: str, config: pytest.Config) -> None:
        super().__init__(fullname, path)
        self._config = config

    def get_code(self, fullname: str) -> CodeType:
        """Never from a cache: the same file is rewritten in more than one way."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        """Compile with LoRA replaced and with pytest's explanations of failing asserts."""
        tree = ast.parse(data, filename=path)
        for names in (_WITHOUT_DIFFUSERS, *([] if BASELINE else [names_for(Path(path).stem)])):
            tree = rewritten(tree, names)
        rewrite_asserts(tree, data, str(path), self._config)
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; then replace its two ways to the Hub."""
        super().exec_module(module)
        if module.__name__ == "tests.testing_utils":
            module.hub_online_once = _stay_offline  # type: ignore[attr-defined]
            module.load_dataset_english_quotes = _quotes  # type: ignore[attr-defined]


@contextlib.contextmanager
def _stay_offline(model_id: str) -> Iterator[None]:
    """Instead of PEFT's `hub_online_once`, which goes online for each id that it meets for the first time."""
    yield


def _quotes() -> Any:
    from datasets import Dataset, DatasetDict

    quotes = ["to be or not to be that is the question", "we live this life and this life is in you"] * 10
    columns = {"quote": quotes, "author": ["nobody"] * len(quotes), "tags": [["life"]] * len(quotes)}
    return DatasetDict({"train": Dataset.from_dict(columns)})


class StableDiffusionPipeline:
    """What the suite's helpers import from diffusers; without diffusers only the tests of its pipelines have to go."""

    @staticmethod
    def from_pretrained(*args: Any, **kwargs: Any) -> None:
        """Skip the test that asks."""
        pytest.skip("needs diffusers")


no_diffusers = SimpleNamespace(__version__="0", StableDiffusionPipeline=StableDiffusionPipeline)


# --- Which tests -----------------------------------------------------------------------------------------------------


def _configs(values: Iterable[Any]) -> Iterator[Any]:
    """Config classes, config objects and stand-ins for them among the parameters of a case."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _configs(value)
        elif isinstance(value, (PeftConfig, NotApplicable)) or (
            inspect.isclass(value) and issubclass(value, PeftConfig) and value is not PeftConfig
        ):
            yield value


def _is_ours(config: Any) -> bool:
    kind = config if inspect.isclass(config) else type(config)
    return kind in ((LoraConfig,) if BASELINE else (LoraAsCoreRegion, CoreRegionConfig, NotApplicable))


def reason_to_leave_out(item: Any) -> str | None:
    """Why a collected test is not run; None to run it. "" for tests of something else, which need no reason."""
    parameters = dict(getattr(getattr(item, "callspec", None), "params", {}))
    found = list(_configs(parameters.values()))
    ours = [config for config in found if _is_ours(config)]
    if (found and not ours) or (not found and not _names_lora(item)):
        return ""
    if len(ours) < len(found):
        return "combines LoRA with another PEFT method in one model"
    for config in ours:
        if isinstance(config, NotApplicable):
            return config.reason
    for name, value in parameters.items():
        if name.startswith("config_kwargs") and isinstance(value, dict):
            try:
                translated(value)
            except NotApplicableError as error:
                return str(error)
    return next((reason for part, reason in NOT_APPLICABLE if re.search(part, item.nodeid)), None)


def _names_lora(item: Any) -> bool:
    """Whether a test makes a LoRA adapter: by itself, in a fixture, or in a helper that it calls."""
    text = _source(item.function)
    texts = [text]
    texts += [_source(fixture[-1].func) for fixture in item._fixtureinfo.name2fixturedefs.values()]
    names = set(re.findall(r"\w+", text))
    for holder in (item.cls, item.module):
        members = vars(holder).items() if holder is not None else ()
        texts += [_source(member) for name, member in members if name in names and inspect.isfunction(member)]
    return any(_NAMES_LORA.search(text) for text in texts)


@cache
def _source(function: Any) -> str:
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return ""


# --- Hooks -----------------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Be in front of pytest's own import hook, and note whenever CORE_REGION is used."""
    sys.meta_path.insert(0, _SuiteFinder(config))
    for kind, name in ((CoreRegionConfig, "__post_init__"), (CoreRegionModel, "inject_adapter")):
        setattr(kind, name, _noting_use(getattr(kind, name)))


def _noting_use(function: Any) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        global _used  # noqa: PLW0603 one test runs at a time
        _used = True
        return function(*args, **kwargs)

    return noting


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Keep the tests of LoRA that can apply."""
    reasons = {item: reason_to_leave_out(item) for item in items}
    left_out = [item for item in items if reasons[item] is not None]
    items[:] = [item for item in items if reasons[item] is None]
    config.hook.pytest_deselected(items=left_out)
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":  # every worker collects the same
        for item in left_out:
            if reasons[item]:
                _record(item.nodeid, "not applicable", reasons[item] or "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: Any) -> Any:
    """Forget whether the last test used the method."""
    global _used, _running
    _used, _running = False, item.nodeid
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    """Note with each report whether the method was used, and tell what cannot apply from what fails."""
    report = yield
    if report.failed and call.excinfo is not None:
        reason = _excuse(call.excinfo)
        if reason:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {reason}")
    report.user_properties.append(("used", BASELINE or _used))
    return report


def _excuse(excinfo: Any) -> str | None:
    """Why a failure is none of CORE_REGION's, if it is none: a layer type it leaves out, or a file that only the Hub has."""
    text = f"{excinfo.typename}: {excinfo.value}"
    layer = _NEEDS_LAYER.search(text)
    if layer:
        return f"not applicable: {layer[1]} layers"
    return "needs a file of the Hub" if _NEEDS_HUB.search(text) else None


def pytest_runtest_logreport(report: Any) -> None:
    """Write the outcome of a test, once, in the process that hears of all of them."""
    if os.environ.get("PYTEST_XDIST_WORKER") or (report.when != "call" and not (report.failed or report.skipped)):
        return
    used = dict(report.user_properties).get("used", True)
    if report.skipped:
        wasxfail = getattr(report, "wasxfail", None)
        reason = wasxfail or (report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr))
        _record(report.nodeid, "xfailed" if wasxfail is not None else "skipped", reason.removeprefix("Skipped: "))
    elif report.failed:
        _record(report.nodeid, "failed", _last_line(report))
    else:
        _record(report.nodeid, "passed" if used else "unrelated", "")


def pytest_collectreport(report: Any) -> None:
    """A module that cannot be imported counts as a failure."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if report.failed and worker in (None, "gw0"):
        _record(report.nodeid, "failed", f"import: {_last_line(report)}")


def _last_line(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines[0] if crash is not None else lines[-1])[:300] if lines else ""


def _record(nodeid: str, outcome: str, reason: str) -> None:
    if OUTCOMES:
        with Path(OUTCOMES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": nodeid, "outcome": outcome, "reason": reason}) + "\n")


assert hf_langcore.tuner  # imported for its layers
