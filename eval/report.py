"""One page for a reader: the question, the answer in words, tables, figures and where every number comes from."""

import base64
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from eval import display
from eval.answers import answers, headline
from eval.benchmark_tasks.tables import read_benchmarks
from eval.claims.plot import marker
from eval.excerpts import SAMPLES, read_excerpts
from eval.methods.page import method_pages, options
from eval.overlap import read_contamination
from eval.records import BASE, Runs, counted_as, labels, load_cards, origin
from eval.render import REHEARSAL, Display
from eval.tables import read_table, read_tables

Cards = Mapping[tuple[str, int], Mapping[str, Any]]
Claim = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Idea:
    """An arm in one sentence, its method and the options that differ from its defaults; ``swept`` with fewer seeds."""

    arm: str
    label: str
    sentence: str
    method: str
    options: str
    swept: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the page shows of one base corpus; ``prefix`` begins the anchors of its headings."""

    name: str
    prefix: str
    answers: list[str]
    cautions: list[str]
    tables: Mapping[str, Display]
    has_levels: bool
    benchmarks: Mapping[str, Display]


def write_report(
    corpora: Mapping[str, Runs],
    out: Path,
    claims: Sequence[Claim] | None = None,
    gradients: Sequence[Mapping[str, Any]] = (),
    paper: Mapping[str, Any] | None = None,
) -> None:
    """Write the page; it needs nothing but itself to be read.

    Args:
        corpora: the runs on each base corpus.
        out: the page.
        claims: what :func:`eval.claims.show.page_claims` says of each claim of the paper; the page opens with them.
        gradients: what ``conflict.html.j2`` shows of the gradients of a prompt's rows, section by section: title, name,
            sentences, a tuple of :class:`~eval.render.Display` under tables, and figures, each with name, caption and
            alt; the pictures are ``figures/<name>.svg``, where a name may begin with ``<base>/``.
        paper: under table the published one, and under ours whether it has rows of these runs.
    """
    runs = next(iter(corpora.values()))
    names, experiment = labels(runs), runs.experiment
    cards = {base: load_cards(one) for base, one in corpora.items()}
    tables = {base: read_tables(one.tables) for base, one in corpora.items()}
    several = len(corpora) > 1
    environment = Environment(
        loader=PackageLoader("eval"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.globals["rehearsal"] = REHEARSAL if experiment.rehearsal else ""
    every_card = [card for of_base in cards.values() for card in of_base.values()]
    page = environment.get_template("report.html.j2").render(
        title=experiment.title,
        replaced=experiment.rehearsal,
        asks_alike=experiment.benchmarks is not None and experiment.benchmarks.prompt == "experiment",
        subject=names[runs.subject] if runs.subject else None,
        reference=names[experiment.evaluation.reference],
        headline=headline(tables, names, runs.subject, experiment.evaluation.reference),
        markers={base: marker(place) for place, base in enumerate(corpora)},
        corpora=[read_corpus(one, f"{base}-" if several else "") for base, one in corpora.items()],
        cautions=[*([runs.interim] if runs.interim else []), *cautions(every_card)],
        ideas=ideas(runs, names, cards[runs.base]),
        side_by_side=display.side_by_side(read_table(runs.tables.with_name("side_by_side.csv"))) if several else None,
        figures=pictures(runs.results / "figures"),
        methods=method_pages(corpora, names, cards[runs.base], tables),
        reading=reading(runs),
        origin=f"{counted_as(len(every_card), 'training run')} from {origin(every_card)}.",
        design=runs.design,
        machines=machines(every_card),
        runs=[row for base, one in corpora.items() for row in run_rows(one, names, cards[base])],
        configuration=yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        claims=claims,
        gradients=gradients,
        paper=paper,
        contamination=read_contamination(runs.tables.parent),
        excerpts={**read_excerpts(runs.results / "excerpts"), "per_problem": SAMPLES},
    )
    out.write_text(page, encoding="utf-8")


def read_corpus(runs: Runs, prefix: str) -> Corpus:
    """Read the tables and figures of one base corpus, and say in words what they hold."""
    tables = read_tables(runs.tables)
    shown = {name: display.show(name, tables) for name in display.TABLES}
    return Corpus(
        name=runs.base,
        prefix=prefix,
        answers=answers(tables, labels(runs), runs.subject, runs.experiment.evaluation.reference),
        cautions=[*display.limits(tables), *judged(runs.source.judge())],
        tables={**shown, "timing": display.timing(pd.read_csv(runs.timing))},
        has_levels=tables["difficulty"]["prompts"].eq("hard").any(),
        benchmarks=read_benchmarks(runs.tables),
    )


def judged(told: str | None) -> list[str]:
    """What the check of the judge on the base's own groups warned of; nothing where no judge was asked."""
    lines = (told or "").splitlines()
    warnings = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
    return [f"Before training, on groups of the base: {warning}." for warning in warnings]


def reading(runs: Runs) -> dict[str, int]:
    """Numbers that the words on intervals need."""
    counts = [len(seeds) for arm, seeds in runs.seeds.items() if arm != BASE]
    settings = runs.experiment.evaluation
    return {
        "resamples": settings.bootstrap,
        "samples": settings.samples,
        "seeds": max(counts),
        "fewest": min(counts),
        "bases": len(runs.experiment.base_seeds),
        "corpora": len(runs.experiment.bases),
    }


def cautions(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """What runs of one experiment should share and do not."""
    shared = {
        "code_hash": "Runs come from different versions of the code",
        "versions": "Runs were made with different package versions",
        "hardware": "Runs were made on different hardware",
    }
    differing = [key for key in shared if len({str(card[key]) for card in cards}) > 1]
    return [f"{shared[key]}; see the run card." for key in differing]


def ideas(runs: Runs, names: Mapping[str, str], cards: Cards) -> list[Idea]:
    """Each arm in its method's own words: the first paragraph of the file that defines it."""
    from dagrpo.algorithm import find_method  # imports torch

    found = [Idea(BASE, names[BASE], "The checkpoint that every arm starts from, not trained further.", "", "")]
    for arm in list(names)[1:]:
        settings = runs.experiment.arms[arm]
        method = find_method(settings.method)
        text = inspect.getdoc(importlib.import_module(method.module)) or ""
        given = method.resolved(cards[arm, runs.seeds[arm][0]]["options"])
        changed = [(one.name, one.set_to) for one in options(method.options, given) if one.set_to]
        changed += [("scorer", settings.scorer.kind)] if settings.scorer else []
        shown = ", ".join(f"{name} = {value}" for name, value in changed)
        sentence = " ".join(text.split("\n\n")[0].split()).replace("``", "")
        found.append(Idea(arm, names[arm], sentence, settings.method, shown, swept=arm in runs.sweeps))
    return found


def machines(cards: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Versions and hardware, each different set once."""
    facts = [{key: str(value) for key, value in {**card["versions"], **card["hardware"]}.items()} for card in cards]
    return [fact for number, fact in enumerate(facts) if fact not in facts[:number]]


def run_rows(runs: Runs, names: Mapping[str, str], cards: Cards) -> list[dict[str, str]]:
    """Hashes that tie each row of the tables to weights, code and stored samples."""
    rows = []
    for arm, seeds in runs.seeds.items():
        for seed in seeds:
            samples = runs.samples(arm, seed)
            rows.append(
                {
                    "base": runs.base,
                    "arm": names[arm],
                    "seed": str(seed),
                    "weights": runs.source.meta(runs.kept, arm, seed)["model_fingerprint"],
                    "code": cards[arm, seed]["code_hash"] if arm != BASE else "",
                    "samples": runs.source.digest(runs.kept, arm, seed),
                    "file": str(samples.relative_to(runs.results)),
                }
            )
    return rows


def pictures(folder: Path) -> dict[str, str]:
    """All figures, by their place in the folder, without suffix: ``<name>`` or ``<base>/<name>``."""
    paths = sorted(folder.rglob("*.svg"))
    return {path.relative_to(folder).with_suffix("").as_posix(): embedded(path) for path in paths}


def embedded(path: Path) -> str:
    """A picture as a data address."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
