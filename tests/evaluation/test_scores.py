import json
import random

import pytest

from simtune.errors import CorpusError
from simtune.evaluation.scores import (
    PredictionRecord,
    score_predictions,
)


def record(instance_id, task, category, prediction, references=("yes",)):
    return PredictionRecord(instance_id, task, category, tuple(references), prediction)


RECORDS = [
    record("1", "task2_entailment", "Textual Entailment", "Yes!"),
    record("2", "task2_entailment", "Textual Entailment", "yes yes yes"),
    record("3", "task2_entailment", "Textual Entailment", "no"),
    record("4", "task1_entailment", "Textual Entailment", "yes"),
    record("5", "task9_title", "Title Generation", "a big dog", ("a small dog",)),
]


def test_overall_is_the_mean_over_instances_and_tasks_weigh_equally_in_the_other():
    scores = score_predictions(RECORDS)
    title = 100 * 2 / 3
    assert scores.overall.values["rouge-l"] == pytest.approx((100 + 50 + 0 + 100 + title) / 5)
    assert scores.overall.values["exact-match"] == pytest.approx(40)
    assert scores.overall.num_instances == 5
    assert scores.task_mean.values["rouge-l"] == pytest.approx((50 + 100 + title) / 3)
    assert scores.task_mean.values["exact-match"] == pytest.approx((100 / 3 + 100 + 0) / 3)


def test_each_category_and_task_shows_the_headline_metric_of_its_category():
    scores = score_predictions(RECORDS)
    entailment, title = scores.categories
    assert (entailment.name, entailment.metric, entailment.num_tasks) == (
        "textual_entailment",
        "exact-match",
        2,
    )
    assert entailment.headline == entailment.values["exact-match"] == pytest.approx(50)
    assert title.metric == "rouge-l"
    assert title.headline == title.values["rouge-l"] == pytest.approx(100 * 2 / 3)
    assert [task.name for task in scores.tasks] == ["task1_entailment", "task2_entailment", "task9_title"]
    assert scores.tasks[1].headline == pytest.approx(100 / 3)


def test_instances_stay_aligned_with_the_records():
    scores = score_predictions(RECORDS)
    assert [instance.instance_id for instance in scores.instances] == ["1", "2", "3", "4", "5"]
    assert [instance.values["exact-match"] for instance in scores.instances] == [100.0, 0.0, 0.0, 100.0, 0.0]


def test_the_dictionary_is_the_same_bytes_whatever_the_order_of_the_records():
    draw = random.Random(0)
    words = ["a", "b", "c", "d", "e", "f", "g"]
    records = [
        record(str(n), f"task{n % 7}", f"Category {n % 7 % 3}", " ".join(draw.choices(words, k=5)), ("a b c d",))
        for n in range(300)
    ]
    texts = set()
    for _ in range(5):
        draw.shuffle(records)
        texts.add(json.dumps(score_predictions(records).to_dict(), allow_nan=False))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no predictions to score"),
        (
            [RECORDS[0], record("9", "task2_entailment", "Title Generation", "x")],
            "two categories.*instance 9",
        ),
        ([record("7", "task1", "Title Generation", "x", ())], "task1, instance 7: no reference"),
    ],
)
def test_what_cannot_be_scored_is_one_clear_error(records, message):
    with pytest.raises(CorpusError, match=message):
        score_predictions(records)
