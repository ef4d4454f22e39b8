"""The verb that shows published figures with ours beneath them."""

from pathlib import Path
from typing import Annotated

import typer

from dagrpo import help_panels

app = typer.Typer()


@app.command(rich_help_panel=help_panels.FOLLOW)
def published(
    results: Annotated[
        Path | None, typer.Option(help="Folder of an experiment; published rows alone if left out.")
    ] = None,
    rows: Annotated[Path, typer.Option(help="The published rows.")] = Path("results/published.csv"),
    base_model: Annotated[
        str, typer.Option(help="The base model whose published rows ours are compared with.")
    ] = "Qwen2.5-Math-7B",
    out: Annotated[
        Path | None, typer.Option(help="Folder of paper.csv, .md and .tex; tables/ of the experiment if left out.")
    ] = None,
) -> None:
    """Print the published table and ours, as Markdown, and write them to the folder of tables."""
    from eval.published.table import compare, show_paper, write_paper
    from eval.render import markdown

    tables = results / "tables" if results else None
    frame, remarks = compare(rows, tables, base_model)
    print(markdown(show_paper(frame, remarks)), end="")
    if folder := out or (tables if tables and tables.is_dir() else None):
        write_paper(frame, remarks, folder)
