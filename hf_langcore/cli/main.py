"""Entry point of `langcore`. Exit code 0: done, 1: failed, 2: wrong usage, 130: interrupted."""

from __future__ import annotations

import sys

import typer

from hf_langcore._version import __version__
from hf_langcore.cli import (
    align,
    audit,
    compress,
    demo,
    echo,
    evaluate,
    exchange,
    extend_vocabulary,
    find,
    inspect,
    instructions,
    knowledge,
    merge,
    perturb,
    probe,
    pull,
    push,
    recipe,
    registry,
    replay,
    report,
    retention,
    scale,
    scan,
    switching,
    train,
)
from hf_langcore.errors import LangCoreError

app = typer.Typer(
    name="langcore",
    help="Find, edit, protect and share the core region of a language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("find")(find.find)
app.command("inspect")(inspect.inspect)
app.command("perturb")(perturb.perturb)
app.command("scale")(scale.scale)
app.command("eval")(evaluate.evaluate)
app.command("echo")(echo.echo)
app.command("merge")(merge.merge)
app.command("replay")(replay.replay)
app.command("audit")(audit.audit)
app.command("sft", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train.sft)
app.command("import")(exchange.import_)
app.command("export")(exchange.export)
app.command("push")(push.push)
app.command("pull")(pull.pull)
app.command("scan")(scan.scan)
app.add_typer(registry.app, name="registry")
app.command("probe")(probe.probe)
app.command("align")(align.align)
app.command("knowledge")(knowledge.knowledge)
app.command("switching")(switching.switching)
app.command("compression")(compress.compression)
app.command("compress")(compress.compress)
app.command("decompress")(compress.decompress)
app.command("extend-vocabulary")(extend_vocabulary.extend_vocabulary)
app.command("instructions")(instructions.instructions)
app.command("arithmetic")(instructions.arithmetic)
app.command("retention")(retention.retention)
app.command("recipe")(recipe.recipe)
app.command("report")(report.report)
app.command("demo")(demo.demo)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run `langcore`; an expected failure is one clear message on standard error and exit code 1."""
    try:
        app()
    except (LangCoreError, OSError) as error:
        print(f"langcore: {error}", file=sys.stderr)
        sys.exit(1)
