"""What every test may rely on: no network, one thread a process, the same examples in each run."""

import os
from pathlib import Path

# Before torch or transformers are imported. Threads decide the rounding, and workers share the cores.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import pytest
from hypothesis import settings

settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real rows that DAGRPO_MIRROR names."""
    folder = os.environ.get("DAGRPO_MIRROR")
    if not folder:
        pytest.skip("DAGRPO_MIRROR is not set: real rows are not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised base of the miniature."""
    from tests.miniature import tiny_base

    return tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="session")
def problem_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.miniature import tiny_problems

    return tiny_problems(tmp_path_factory.mktemp("problems"))


@pytest.fixture(scope="session")
def problems(problem_folder: Path) -> Path:
    """Forty training problems of the miniature."""
    return problem_folder / "train.jsonl"


@pytest.fixture(scope="session")
def evaluation_problems(problem_folder: Path) -> Path:
    """Four problems of each family."""
    return problem_folder / "evaluation.jsonl"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base that guesses, right half of the time, and its problem file."""
    from tests.miniature import guessing_base

    return guessing_base(tmp_path_factory.mktemp("guessing"))
