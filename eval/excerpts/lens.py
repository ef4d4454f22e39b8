"""Training groups under the lens: what their rows are, what they share, and what the mask leaves of them.

The groups are those that a run's snapshots hold. Of the first seed of each arm with snapshots some groups are drawn;
what is said of all rows together is over every seed and snapshot of an arm.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from dagrpo import seeds
from dagrpo.algorithm import Recipe, find_method
from dagrpo.measurements.conflict import advantages
from dagrpo.trainer.snapshots import GROUPS, MODEL, StoredGroup, read_groups, snapshot_steps
from eval.excerpts.sharing import Stretch, gaps, shared_with_others, stretches
from eval.records import Runs, counted_as, labels
from eval.render import signed
from eval.statistics import CONFIDENCE

DRAWN = {"easy": 1, "mixed": 2, "hard": 1, "masked": 2}
"""Groups of each kind that are shown of a step: all, some or none of the policy's own rows right, whatever the mask
does; and, drawn after these, groups of which the mask removes a row."""
WHEN = ("early", "middle", "late")
CHARACTERS = 1500
"""Of a row's text; what is beyond is left out, and counted."""
RESAMPLES = 1000

Decode = Callable[[Sequence[int]], str]


def lens(corpora: Mapping[str, Runs]) -> list[dict[str, Any]]:
    """What the page's lens is drawn from: an entry for each base corpus and arm that has snapshots.

    Each has base, arm, label, seed (whose groups are shown), masked (whether the method weighs rows by a score), delta
    (the margin, ``None`` without one), said (sentences on all its rows) and steps: step, when, groups.
    """
    found = []
    for base, runs in corpora.items():
        names = labels(runs)
        for arm in dict.fromkeys(arm for arm, _ in runs.trained):
            kept = {seed: snapshot_steps(folder_of(runs, arm, seed)) for seed in runs.seeds[arm]}
            if not any(kept.values()):
                continue
            recipe, delta = _recipe(runs, arm)
            seed = runs.seeds[arm][0]
            about = {"base": base, "arm": arm, "label": names[arm], "seed": seed, "delta": delta}
            every = [
                group for steps in kept.values() for step in steps.values() for group in read_groups(step / GROUPS)
            ]
            said = sentences(recipe, every, seeds.key("lens", base, arm)) if recipe.weight else []
            steps = [
                {"step": step, "when": when, "groups": list(_shown(runs, arm, seed, step, kept[seed][step], recipe))}
                for step, when in chosen_steps(list(kept[seed])).items()
            ]
            found.append({**about, "masked": bool(recipe.weight), "said": said, "steps": steps})
    return found


def folder_of(runs: Runs, arm: str, seed: int) -> Path:
    """The folder of a run's snapshots."""
    return runs.results / "runs" / runs.base / arm / f"seed{seed}" / "snapshots"


def chosen_steps(steps: Sequence[int]) -> dict[int, str]:
    """The first, middle and last snapshot of a run: step -> word for it."""
    places = dict.fromkeys((0, len(steps) // 2, len(steps) - 1)) if steps else {}
    words = WHEN if len(places) == len(WHEN) else (WHEN[0], WHEN[-1])
    return {steps[place]: word for place, word in zip(places, words, strict=False)}


def kind_of(group: StoredGroup) -> str:
    """Whether all (easy), some (mixed) or none (hard) of the policy's own rows are right."""
    right = [row.verdict == "correct" for row in group.rows if row.source == "policy"]
    return "easy" if all(right) else "mixed" if any(right) else "hard"


def drawn_groups(groups: Sequence[StoredGroup], *key: int | str) -> list[tuple[str, StoredGroup]]:
    """Draw :data:`DRAWN` groups of each kind by a seed, in the order of the kinds; none twice."""
    left = [groups[place] for place in seeds.permutation(len(groups), "lens", *key)]
    found: list[tuple[str, StoredGroup]] = []
    for kind, count in DRAWN.items():
        drawn = [group for group in left if (thinned(group) if kind == "masked" else kind_of(group) == kind)][:count]
        found += [(kind, group) for group in drawn]
        left = [group for group in left if group not in drawn]
    return found


def thinned(group: StoredGroup) -> bool:
    """Whether the mask removes a row that would push."""
    return any(row.weight == 0 and row.advantage != 0 for row in group.rows)


def described(group: StoredGroup, recipe: Recipe, decode: Decode) -> dict[str, Any]:
    """A group as the lens shows it: prompt, answer, and for each row what it is worth and what it shares.

    A row's parts are lists: text, tokens, rows that share it, net advantage of those before the mask and after it, and
    whether rows of both sides are among them.
    """
    before = advantages(recipe, group).tolist()
    after = [row.advantage * row.weight for row in group.rows]
    cut = stretches([row.tokens for row in group.rows])
    apart = gaps([row.score for row in group.rows], before)
    shared = shared_with_others(cut, before)
    rows = [
        {
            "anchor": row.source == "anchor",
            "verdict": str(row.verdict),
            "score": _rounded(row.score),
            "gap": _rounded(apart[number]),
            "advantage": _rounded(before[number]),
            "weight": _rounded(row.weight),
            "shared": _rounded(shared[number]),
            "parts": _parts(row.tokens, cut[number], before, after, decode),
            "tokens": len(row.tokens),
        }
        for number, row in enumerate(group.rows)
    ]
    problem = group.problem
    about = {"id": problem.id, "family": problem.family, "level": problem.level}
    return {**about, "prompt": problem.prompt, "answer": problem.answer, "rows": rows}


def sentences(recipe: Recipe, groups: Sequence[StoredGroup], key: int) -> list[str]:
    """Say of all groups with both signs what the mask removes, and whether that is more alike than what it leaves.

    Intervals are 95 %, by draws of whole groups.
    """
    rows: list[tuple[int, bool, float, float]] = []
    for number, group in enumerate(groups):
        before = advantages(recipe, group).tolist()
        if not min(before) < 0 < max(before):
            continue
        shared = shared_with_others(stretches([row.tokens for row in group.rows]), before)
        apart = gaps([row.score for row in group.rows], before)
        rows += [
            (number, row.weight == 0, alike, far)
            for row, alike, far in zip(group.rows, shared, apart, strict=True)
            if alike is not None and far is not None
        ]
    if not rows:
        return ["No group of these snapshots has scored rows of both signs."]
    owner, removed, alike, far = (np.array(column) for column in zip(*rows, strict=True))
    _, owner = np.unique(owner, return_inverse=True)
    size = int(owner.max()) + 1
    count = f"{len(rows)} scored rows in {counted_as(size, 'group')} with both signs"
    if removed.all() or not removed.any():
        return [f"Of {count} the mask removes {'all' if removed.all() else 'none'}."]
    draws = seeds.generator("lens", key).multinomial(size, np.full(size, 1 / size), size=RESAMPLES)
    counts = np.vstack([np.ones(size), draws])[:, owner]
    share = _interval(counts @ removed / counts.sum(1))
    difference = _interval(_mean(counts * removed, alike) - _mean(counts * ~removed, alike))
    here = "more" if difference[1] > 0 else "less" if difference[2] < 0 else "neither more nor less"
    shares = f"{100 * share[0]:.0f} % [{100 * share[1]:.0f}, {100 * share[2]:.0f}]"
    means = [f"{far[of].mean():.1f}".replace("-", "−") for of in (removed, ~removed)]
    held = [f"{100 * alike[of].mean():.0f} %" for of in (removed, ~removed)]
    over = f"{signed(difference[0])} points [{signed(difference[1])}, {signed(difference[2])}]"
    return [
        f"Of {count} the mask removes {shares}. Their mean gap is {means[0]}, that of the rows which stay {means[1]}.",
        "The paper says that removed rows are too much like the other side. Counted in tokens, a removed row shares "
        f"{held[0]} of its tokens with a row of the other side, a row that stays {held[1]}: {here}, as far as these "
        f"rows can tell ({over}).",
    ]


def _shown(runs: Runs, arm: str, seed: int, step: int, folder: Path, recipe: Recipe) -> Iterator[dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(folder / MODEL, local_files_only=True)
    measured = {line["problem"]: line for line in runs.source.conflict(arm, seed) or () if line["step"] == step}
    groups = read_groups(folder / GROUPS)
    for kind, group in drawn_groups(groups, runs.base, arm, seed, step):
        line = measured.get(group.problem.id, {})
        conflict = {name: _rounded(line.get(f"conflict_{name}")) for name in ("before", "after", "random") if line}
        yield {"kind": kind, **described(group, recipe, tokenizer.decode), "conflict": conflict or None}


def _recipe(runs: Runs, arm: str) -> tuple[Recipe, float | None]:
    """The recipe of an arm's steps that sample, and its margin where it has one."""
    card = runs.source.card(arm, runs.seeds[arm][0])
    method = find_method(card["method"])
    phases = method.algorithm(card["options"], f"options of {arm}").phases
    recipe = next((phase.recipe for phase in phases if phase.recipe.samples), phases[0].recipe)
    delta = getattr(method.resolved(card["options"]), "delta", None)
    return recipe, delta if recipe.weight and isinstance(delta, float) and np.isfinite(delta) else None


def _parts(
    tokens: Sequence[int], cut: Sequence[Stretch], before: Sequence[float], after: Sequence[float], decode: Decode
) -> list[list[Any]]:
    parts: list[list[Any]] = []
    left = CHARACTERS
    for start, end, rows in cut:
        text = decode(tokens[start:end])
        if left <= 0:
            break
        signs = {before[row] > 0 for row in rows if before[row]}
        net = [_rounded(sum(values[row] for row in rows)) for values in (before, after)]
        parts.append([text[:left] + ("…" if len(text) > left else ""), end - start, len(rows), *net, len(signs) == 2])
        left -= len(text)
    return parts


def _mean(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weighted means, NaN where a draw has no such row: (B, R), (R,) -> (B,)."""
    total = weight.sum(1)
    return np.divide(weight @ values, total, out=np.full(len(total), np.nan), where=total > 0)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """The first of the values, and the central interval of the others."""
    low, high = np.nanquantile(values[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(values[0]), float(low), float(high)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)
