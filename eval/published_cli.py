"""The verb that shows published figures with ours beneath them."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
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
    """Print the published table with ours beneath it, as Markdown, and write it beside the tables."""
    from eval.published.read import disagreements, read_published
    from eval.published.table import one_page, paper_table, read_ours, show_paper
    from eval.render import latex, markdown
    from eval.tables import to_csv

    known = read_published(rows)
    ours = read_ours(results) if results else {}
    remarks = [f"An average that does not follow from its columns: {found}." for found in disagreements(known)]
    if results and not ours:
        remarks.insert(0, f"There are no tables in {results} yet, so nothing of ours stands here.")
    frame = paper_table(known, ours, base_model)
    shared = set(frame.loc[frame["kind"] == "ours", "base"])
    remarks += [
        f"No family of {base} is one of the benchmarks, so it is left out." for base in ours if base not in shared
    ]
    shown = show_paper(frame, remarks)
    print(markdown(shown), end="")
    if folder := out or (results / "tables" if results and ours else None):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "paper.csv").write_bytes(to_csv(frame))
        (folder / "paper.md").write_text(markdown(shown), encoding="utf-8")
        (folder / "paper.tex").write_text(latex(show_paper(one_page(frame), remarks), "tab:paper"), encoding="utf-8")
