"""Judge the steps of a response by program. A response reads ``lhs=rhs;lhs=rhs;...A<answer>``."""

from dagrpo.errors import UserError
from dagrpo.problems.mini.expressions import moves, normal, parse
from dagrpo.records import Problem


def extract_answer(text: str) -> str | None:
    """Return what follows the last ``A``, or ``None`` where there is none or nothing follows."""
    _, mark, answer = text.rpartition("A")
    return (answer.strip() or None) if mark else None


def check_steps(problem: Problem, response: str) -> list[bool]:
    """Judge each step of a response; the last entry is its final answer (false where it gives none).

    A step is right if it is open at that point of the question (see :func:`expressions.moves`): true arithmetic on
    numbers that the question or an earlier right step supplies, in any sound order. What is true but beside the point,
    repeated, or built on a wrong result is not.

    Raises:
        UserError: where the problem is not of the miniature.
    """
    answer = extract_answer(response)
    working = response.rpartition("A")[0] if answer is not None else response
    try:
        tree = parse(problem.prompt)
    except ValueError:
        raise UserError(
            f"problem {problem.id!r}: its steps cannot be checked by program; choose the scorer reference_overlap"
        ) from None
    verdicts = []
    for step in (piece.strip() for piece in working.removesuffix(";").split(";") if working):
        wanted = normal(step)
        move = next((move for move in moves(tree) if wanted is not None and normal(move.text()) == wanted), None)
        verdicts.append(move is not None)
        if move is not None:
            tree = move.then(move.result)
    return [*verdicts, answer == problem.answer]


def reference_steps(problem: Problem) -> int:
    """Count the steps of the worked solution, its final answer included."""
    return (problem.solution or "").count(";") + 1
