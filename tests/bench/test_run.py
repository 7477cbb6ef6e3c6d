"""From options to trials: which models are fine-tuned. The bench itself is run in `test_command`."""

from __future__ import annotations

from itertools import product

from gradsentry.bench.evaluate_finetuned import Trial
from gradsentry.bench.plan import COMPARED, planned
from gradsentry.bench.run import trials_of


def test_by_default_every_training_is_compared_with_the_usual_filters() -> None:
    plan = planned("laptop", tasks=("webquestions", "nq"), attacks=("badnets", "cba"), rows=40)
    found = trials_of(plan, ["lora", "full"])
    wanted = product(plan.tasks, plan.attacks, COMPARED, ["lora", "full"])
    assert set(found) == {Trial(task, attack, name, method, 0.1, 40, 0) for task, attack, name, method in wanted}
    assert len(found) == 2 * 2 * 2 * 5
    assert {"none", "cleangen", "evidence"} < set(COMPARED)


def test_given_filters_are_those_that_are_trained_with() -> None:
    plan = planned("laptop", tasks=("webquestions",), attacks=("badnets",), filters=("none", "cleangen"))
    assert [trial.filter for trial in trials_of(plan, ["lora"])] == ["none", "cleangen"]


def test_the_paper_fine_tunes_with_every_rival_and_with_none_that_was_not_asked_for() -> None:
    assert {trial.filter for trial in trials_of(planned("paper"), ["lora"])} == {*COMPARED, "cube", "onion"}
    asked = planned("paper", filters=("paper",))
    assert {trial.filter for trial in trials_of(asked, ["full"])} == {"paper"}
    assert not asked.slow
