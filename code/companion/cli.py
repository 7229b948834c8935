"""The command `tripartite`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from .paths import BUILD

PROBLEMS = "FetchError ParameterError LookupError BuildError ChapterError OSError".split()


class Group(click.Group):
    """Commands whose expected errors are one line and a non-zero exit, not a traceback."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except Exception as error:
            names = {kind.__name__ for kind in type(error).__mro__}
            if context.params.get("debug") or not names.intersection(PROBLEMS):
                raise
            text = error.args[0] if isinstance(error, LookupError) else error
            raise click.ClickException(str(text)) from None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="tripartite")
def main(debug: bool) -> None:
    """Execute, compare and build the companion to "Building transformers from neurons and astrocytes"."""


@main.command()
@click.option("--committed", is_flag=True, help="Show the committed outputs; execute nothing.")
def book(committed: bool) -> None:
    """Fetch what the book needs, execute stale chapters, compare, build the site."""
    from . import build
    from .chapters import chapters

    start = time.monotonic()
    folder = BUILD / "stage"
    if committed:
        html = build.committed_site(folder)
    else:
        html = _fresh_site(build, chapters(), folder)
    click.echo(f"built in {time.monotonic() - start:.0f} s: open {_page(html)}, or run make serve")


def _fresh_site(build, known, folder: Path) -> Path:
    from . import fetch

    for name in fetch.BOOK:
        fetch.model_directory(name)
    compared = build.refresh(known, click.echo)
    click.echo("compared with the committed outputs:")
    for slug, comparison in compared.items():
        verdict = "same" if comparison.same() else "DIFFERS"
        click.echo(f"  {slug:28} {verdict:8} {comparison.summary()}")
        for line in comparison.details():
            click.echo(f"    {line}")
    notebooks = {c.path.name: build.EXECUTED / c.path.name for c in known}
    build.stage(folder, notebooks, BUILD / "figures")
    return build.site(folder)


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write it.")
def pdf(output: Path | None) -> None:
    """The whole book, from the committed outputs, as one PDF: a minute, and Chromium prints it."""
    from . import build
    from . import pdf as printing

    folder = build.stage_committed(BUILD / "pdf")
    click.echo(
        printing.pdf(folder, output or BUILD / "transformers-from-neurons-and-astrocytes.pdf")
    )


def _page(html: Path) -> Path:
    return html / "book" / "index.html"


@main.command()
def site() -> None:
    """Build the site of the committed outputs, warnings as errors, for the tests."""
    from . import build

    click.echo(build.committed_site(BUILD / "committed"))


@main.command()
@click.argument("chapter")
@click.option("-p", "parameters", multiple=True, metavar="NAME=VALUE", help="Another value.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the run.")
def run(chapter: str, parameters: tuple[str, ...], output: Path | None) -> None:
    """Re-execute CHAPTER (04, or its slug) with other parameters, into runs/.

    Exits with 1 where a claim does not hold with them.
    """
    from . import run as runs
    from .chapters import find

    found = find(chapter)
    values = runs.parse(found, parameters)
    folder, comparison = runs.run(found, values, output)
    click.echo(f"{found.slug}: {comparison.summary()}")
    for line in comparison.details():
        click.echo(f"  {line}")
    click.echo(f"see {folder}")
    if comparison.failed_claims():
        raise SystemExit(1)


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """Chapters, their parameters and their figures."""
    from .chapters import chapters

    if as_json:
        listed = {
            c.slug: {
                "parameters": {
                    p.name: {
                        "type": p.kind.__name__,
                        "default": p.default,
                        "meaning": p.meaning,
                        "unit": p.unit,
                        "allowed": p.allowed,
                    }
                    for p in c.parameters().values()
                },
                "figures": c.figures(),
            }
            for c in chapters()
        }
        click.echo(json.dumps(listed, indent=1))
        return
    for chapter in chapters():
        click.secho(chapter.slug, bold=True)
        for parameter in chapter.parameters().values():
            click.echo(f"  -p {parameter}")
        for name in chapter.figures():
            click.echo(f"  figure {name}")


@main.command()
@click.argument("names", nargs=-1)
def accept(names: tuple[str, ...]) -> None:
    """Execute chapters (default: all) and commit their outputs as the new reference."""
    from . import build
    from .chapters import chapters, find

    build.accept([find(name) for name in names] or chapters(), click.echo)


@main.command()
@click.argument("names", nargs=-1)
def fetch(names: tuple[str, ...]) -> None:
    """Fetch and verify models (default: those that the chapters use)."""
    from . import fetch as downloads

    for name in names or downloads.BOOK:
        try:
            click.echo(downloads.model_directory(name))
        except ValueError as error:  # no such model
            raise click.UsageError(str(error)) from None


if __name__ == "__main__":
    main(prog_name="tripartite")
