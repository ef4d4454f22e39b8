"""What the plan says of judges."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagrpo.config import Experiment, load_experiment, parse
from dagrpo.errors import UserError
from dagrpo.plan.devices import DEVICES
from dagrpo.plan.judge import CHARACTERS, REPLY_TOKENS, asking, judge_table, judges, refuse_small_budgets
from dagrpo.plan.show import PlanRequest, refuse_what_cannot_fit, show_plan
from dagrpo.scorers.judge.prompt import load_rubric

CONFIG = Path(__file__).parent.parent / "config"
SEVEN = CONFIG / "qwen2.5-math-7b.yaml"


def changed(options: dict[str, Any], **others: Any) -> Experiment:
    plain = yaml.safe_load(SEVEN.read_text())
    plain["scorer"]["options"] = plain["scorer"]["options"] | options
    return parse(Experiment, plain | others, "experiment")


def test_calls_tokens_and_money_by_hand() -> None:
    experiment = changed({"reference_chars": 700, "price": {"input": 2.0, "cached": 1.0, "output": 8.0}})
    found = judges(experiment)
    assert list(found) == ["dagrpo_no_anchors", "dagrpo"], "only methods that ask for scores"
    own = asking(experiment, "dagrpo", found["dagrpo"], prompt=300, response=1000, demonstration=5000)
    rubric = load_rubric("holistic.v1")
    prefix = (len(rubric.system.template) + len(rubric.question.template)) / CHARACTERS + 300 + 700 / CHARACTERS
    assert own.calls == 500 * 128 * 8
    assert own.sent == pytest.approx(own.calls * (prefix + 1000))
    assert own.repeated == pytest.approx(500 * 128 * 7 * prefix), "all candidates of a problem but the first"
    assert own.returned == own.calls * REPLY_TOKENS
    money = 2 * (own.sent - own.repeated) + own.repeated + 8 * own.returned
    assert own.cost(found["dagrpo"]) == pytest.approx(money / 1e6)
    dear = changed({"reference_chars": 700, "price": {"input": 2.0, "output": 8.0}})
    assert own.cost(judges(dear)["dagrpo"]) == pytest.approx((2 * own.sent + 8 * own.returned) / 1e6)
    assert own.cost(judges(changed({"price": None}))["dagrpo"]) is None


def test_the_plan_shows_a_judge_where_there_is_one() -> None:
    shown = show_plan(load_experiment([SEVEN]), PlanRequest("h100"))
    assert re.search(r"^dagrpo +gpt-4o-2024-08-06 \(api.openai.com\) +512,000 ", shown, re.MULTILINE)
    assert judge_table(load_experiment([CONFIG / "mini.yaml"]), 1, 1, 1) is None


def test_a_budget_of_calls_below_what_a_run_may_ask_is_refused() -> None:
    refuse_small_budgets(changed({"max_calls": 512_000}))
    with pytest.raises(UserError, match=r"arms.dagrpo_no_anchors: a run asks its judge up to 512,000 times; raise"):
        refuse_small_budgets(changed({"max_calls": 511_999}))


def test_an_open_judge_goes_with_any_experiment() -> None:
    experiment = load_experiment([SEVEN, CONFIG / "judges" / "open.yaml"])
    judge = judges(experiment)["dagrpo"]
    assert experiment.name == "open-judge" and judge.base_url is None and judge.serve is not None
    assert judge.api_key_env is None and judge.reply_format == "json_schema"
    assert set(experiment.arms) == set(load_experiment([SEVEN]).arms)
    refuse_small_budgets(experiment)
    assert "(served on 1 GPUs)" in show_plan(experiment, PlanRequest("h100"))


def test_a_judge_that_shares_a_gpu_takes_its_part() -> None:
    served = {"base_url": None, "model": ".", "api_key_env": None}
    refuse_what_cannot_fit(changed(served | {"serve": {"gpus": 0, "memory": 0.1}}), DEVICES["h200"])
    with pytest.raises(UserError, match="can be used"):
        refuse_what_cannot_fit(changed(served | {"serve": {"gpus": 0, "memory": 0.7}}), DEVICES["h200"])


def test_changes_of_an_experiment_are_keys(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(UserError, match=r"list.yaml: expected a mapping"):
        load_experiment([SEVEN, tmp_path / "list.yaml"])
    (tmp_path / "wrong.yaml").write_text("scroer: {}\n")
    with pytest.raises(UserError, match=r"wrong.yaml: unknown key 'scroer'; did you mean 'scorer'"):
        load_experiment([SEVEN, tmp_path / "wrong.yaml"])
