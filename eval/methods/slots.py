"""The filled slots of a method in words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from eval.methods.functions import Named, describe

if TYPE_CHECKING:  # torch, which only a page of methods needs
    from dagrpo.algorithm import Algorithm, Phase, Recipe, SequenceTerm, Term

Build = Callable[..., Any]

_DATA = {
    "rollouts": "answers that the policy samples",
    "demonstrations": "demonstrations alone; nothing is sampled",
    "both": "sampled answers, and demonstrations of other prompts beside them",
}
_SCORES = {
    "mixed": "rows of groups with advantages of both signs",
    "all_wrong": "rows of groups that are wrong as a whole, before the reward",
    "wrong": "all wrong rows, before the reward",
}
_WHEN = {"always": "in every group", "all_wrong": "in groups without a right answer"}
_SCALE = {"none": "", "std0": ", over the population deviation", "std1": ", over the sample deviation"}
_AGGREGATE = {
    "token": "mean over tokens",
    "sequence": "mean over rows of each row's mean",
    "constant": "sum over tokens, by rows × budget",
}
# What a recipe does where a slot is left as it is; the slots that are always shown are not here.
USUAL = {
    "curriculum": "all problems",
    "plan": "a group of answers to each prompt",
    "anchors": "none",
    "filter": "every group counts",
    "scores": "none",
    "weight": "1 for every row",
    "token_weight": "1 for every token",
    "epochs": "the rows of a step are learned from once",
    "interleave": "none",
}


@dataclass(frozen=True, slots=True)
class Part:
    """What stands in a slot: a function and its words, then settings."""

    named: Named
    settings: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot and what fills it."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """A phase in words: its title (empty where there is one phase only), its slots, and those left as they are."""

    title: str
    slots: tuple[Slot, ...]
    usual: tuple[str, ...]


def stages(algorithm: "Algorithm", build: Build) -> tuple[Stage, ...]:
    """Put the recipe of each phase into words; ``build`` is the function that made the algorithm."""
    several = len(algorithm.phases) > 1
    return tuple(
        Stage(
            f"Phase {number}: {_length(phase)}" if several else "",
            tuple(Slot(name.replace("_", " "), tuple(parts)) for name, parts in _filled(phase.recipe, build)),
            tuple(_usual(phase.recipe)),
        )
        for number, phase in enumerate(algorithm.phases, start=1)
    )


def _length(phase: "Phase") -> str:
    steps, settings = ("train.steps", "train.rl") if phase.kind == "rl" else ("train.sft_steps", "train.sft")
    share = "" if phase.share == 1 else f"{phase.share:.0%} of ".replace("%", " %")
    return f"{share}{steps} steps with the optimiser {settings}"


def _filled(recipe: "Recipe", build: Build) -> Iterator[tuple[str, list[Part]]]:
    """The slots that are filled otherwise than usual, and those that every recipe is known by; in order of the data."""
    yield "data", [_words(_DATA[recipe.data])]
    if recipe.curriculum:
        yield "curriculum", [Part(describe(recipe.curriculum.keep, build), "decides what the next epoch holds")]
    if recipe.history:
        yield "history", [_words("the last outcome of each problem is kept")]
    if not _as_usual(recipe, "plan"):
        yield "plan", [Part(describe(recipe.plan, build))]
    if recipe.anchors:
        yield "anchors", [_words(_anchors(recipe))]
    if recipe.samples:
        yield "reward", [Part(describe(recipe.reward, build))]
    if recipe.filter:
        yield "filter", [Part(describe(recipe.filter.valid, build), _filter(recipe))]
    if not _as_usual(recipe, "scores"):
        yield "scores", [_words(_SCORES[recipe.scores])]
    if recipe.distances is not None:
        yield "distances", [_words(f"by n-grams of {recipe.distances} tokens")]
    if recipe.samples and any(getattr(term, "weighted", False) for term in recipe.objective):
        yield "advantage", [_advantage(recipe, build)]
    if recipe.weight:
        yield "weight", [Part(describe(weight, build)) for weight in recipe.weight]
    if recipe.recentred:
        yield "recentred", [_words("the baseline is taken anew over the rows that keep weight")]
    if recipe.token_weight:
        yield "token_weight", [Part(describe(weight, build)) for weight in recipe.token_weight]
    yield "objective", [_term(term, build) for term in recipe.objective]
    if not _as_usual(recipe, "epochs"):
        yield "epochs", [_words(f"the rows of a step are learned from {recipe.epochs} times")]
    if recipe.interleave:
        queue, inner = recipe.interleave, recipe.interleave.recipe
        gathered = f"demonstrations of such prompts wait until there are {queue.size}; then one update on them, with"
        yield (
            "interleave",
            [Part(describe(queue.queue, build), gathered), *(_term(one, build) for one in inner.objective)],
        )


def _usual(recipe: "Recipe") -> Iterator[str]:
    sampling_only = ("plan", "filter", "scores", "weight", "token_weight", "anchors", "interleave")
    for name, words in USUAL.items():
        if _as_usual(recipe, name) and (recipe.samples or name not in sampling_only):
            yield f"{name.replace('_', ' ')} ({words})"


def _as_usual(recipe: "Recipe", name: str) -> bool:
    default = next(field.default for field in fields(recipe) if field.name == name)
    return bool(getattr(recipe, name) == default)


def _words(text: str) -> Part:
    return Part(Named(""), text)


def _anchors(recipe: "Recipe") -> str:
    anchors = recipe.anchors
    assert anchors is not None
    count = "a demonstration" if anchors.count == 1 else f"{anchors.count} copies of a demonstration"
    place = "in the place of a sample" if anchors.within_group else "beside the samples"
    rejected = "rejected ones are left out" if anchors.drop_rejected else "rejected ones too"
    return f"{count} {_WHEN[anchors.when]}, {place}; {rejected}"


def _filter(recipe: "Recipe") -> str:
    kept = recipe.filter
    assert kept is not None
    again = (
        f"prompts are drawn again until {100 * kept.share:.0f} % of the groups pass, in at most {kept.rounds} rounds"
    )
    others = "groups that do not pass are left out" if kept.drop else "groups that do not pass stay"
    return f"{again}; {others}" if kept.share > 0 and kept.rounds > 1 else others


def _advantage(recipe: "Recipe", build: Build) -> Part:
    from dagrpo.algorithm import Advantage

    advantage = recipe.advantage
    if not isinstance(advantage, Advantage):
        return Part(describe(advantage, build))
    over = "of the group" if advantage.over == "union" else "of the group's sampled rows"
    cut = "; 0 for rows that the budget cut" if advantage.zero_truncated else ""
    return _words(f"reward less the mean {over}{_SCALE[advantage.scale]}{cut}")


def _term(term: "Term | SequenceTerm", build: Build) -> Part:
    from dagrpo.algorithm import Term

    rows = {"policy": "sampled rows", "anchor": "demonstrations", "all": "all rows"}.get(str(term.rows))
    settings = [f"rows: {rows or _code(term.rows, build)}"]
    if isinstance(term, Term):
        counted = " (all rows counted)" if term.count == "all" and term.rows != "all" else ""
        settings += [_AGGREGATE[term.aggregate] + counted]
        settings += [] if term.weighted else ["no advantage"]
    if callable(term.coefficient):
        settings.append(f"coefficient: {_code(term.coefficient, build)}")
    elif term.coefficient != 1:
        settings.append(f"coefficient {term.coefficient:g}".replace("-", "−"))
    return Part(describe(term.loss, build), "; ".join(settings))


def _code(function: Any, build: Build) -> str:
    named = describe(function, build)
    return f"{named.code} ({named.sentence})" if named.sentence else named.code
