"""What counts as a leak, what does not, and what is left when leaks are removed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.config import CorpusSettings, EvaluationSettings, LeakageSettings
from simtune.corpus.leakage import EVIDENCE, Leak, leaks_table, text_leaks, without_leaks
from simtune.corpus.normalised_text import normalised
from simtune.corpus.pool import TaskRecord, TaskSets, build_task_sets
from simtune.corpus.task import Instance, Task
from simtune.errors import CorpusError

DEFAULT = LeakageSettings()
SENTENCE = "The quick brown fox number {} jumps over a lazy dog."


def task(name: str, definition: str = "", inputs: list[str] | None = None, sources: tuple[str, ...] = ()) -> Task:
    """A task that shares nothing with one of another name unless an argument says so."""
    own = [f"An input that belongs to the task {name} alone, {i}" for i in range(4)]
    instances = tuple(Instance(f"{name}-{i}", text, ("out",)) for i, text in enumerate(inputs or own))
    return Task(name, definition or name * 7, ("A",), (), (), instances, sources=sources)


def found(pool: Task, test: Task, **thresholds: float | bool) -> list[tuple[str, float, str]]:
    leaks = text_leaks([pool], [test], LeakageSettings(**thresholds))  # type: ignore[arg-type]
    assert {(leak.pool_task, leak.test_task) for leak in leaks} <= {(pool.name, test.name)}
    return [(leak.evidence, leak.value, leak.detail) for leak in leaks]


def test_unrelated_tasks_do_not_leak() -> None:
    assert found(task("a", sources=("squad",)), task("b", sources=("glue",))) == []


def test_a_name_is_the_same_whatever_its_case() -> None:
    assert found(task("Task1_X", "abc", ["x"]), task("task1_x", "def", ["y"])) == [("name", 1.0, "shares its name")]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("roc_stories",), ("RocStories",), "roc_stories"),
        (("wsc; enhanced_wsc",), ("enhanced_wsc",), "enhanced_wsc"),
        (("librispeech_asr,",), ("librispeech asr",), "librispeech_asr,"),
        (("b", "a"), ("A", "B"), "a and b"),
    ],
)
def test_a_source_is_the_same_whatever_its_spelling(one: tuple[str, ...], other: tuple[str, ...], shared: str) -> None:
    pool, test = task("a", sources=one), task("b", sources=other)
    assert found(pool, test) == [("source", 1.0, f"shares source {shared}")]
    assert found(pool, test, sources=False) == []


@pytest.mark.parametrize("label", ["synthetic", "Missing", "", "--", ";"])
def test_a_task_without_a_data_set_has_no_source(label: str) -> None:
    assert found(task("a", sources=(label,)), task("b", sources=(label,))) == []
    assert found(task("a", sources=("squad2",)), task("b", sources=("squad",))) == []


def test_a_definition_is_compared_without_case_layout_and_punctuation() -> None:
    written, copied = "Answer the question: yes, or no?", "answer  the\nquestion — “YES” or no"
    assert found(task("a", written), task("b", copied)) == [("definition", 1.0, "shares its definition")]


def test_definitions_leak_from_the_threshold_on() -> None:
    twenty, one_edit = "abcdefghij klmnopqrs", "abcdefghij klmnopqrX"
    pool, test = task("a", twenty), task("b", one_edit)
    assert found(pool, test, max_definition_similarity=0.95) == [("definition", 0.95, "shares 95.0% of its definition")]
    assert found(pool, test, max_definition_similarity=0.951) == []
    assert found(pool, task("b", twenty), max_definition_similarity=1.0)


def test_tasks_without_a_definition_are_not_alike() -> None:
    assert found(task("a", "..."), task("b", "!")) == []


def test_instances_leak_above_the_threshold() -> None:
    own = [f"{SENTENCE.format(i)} And more." for i in range(20)]
    pool = task("a", inputs=[SENTENCE.format(1).upper(), *own[1:]])
    test = task("b", inputs=[SENTENCE.format(i) for i in range(9)])
    assert found(pool, test, max_shared_instances=0.05) == []
    assert found(pool, test, max_shared_instances=0.049) == [
        ("instances", 0.05, "shares the inputs of 1 of 20 instances")
    ]
    # From the side of the pool task: other instances of the test task do not matter.
    assert found(test, pool, max_shared_instances=0.05)[0][1] == 1 / 9


@pytest.mark.parametrize("text", ["", "?", "Yes", "Papua New Guinea", "...............................", "x" * 29])
def test_short_inputs_are_no_evidence(text: str) -> None:
    assert found(task("a", inputs=[text] * 50), task("b", inputs=[text])) == []


def test_long_inputs_are_in_any_script() -> None:
    thai = "ผู้หญิงหยุดวิ่งเพราะเธอเป็นตะคริวที่ขา"
    assert found(task("a", inputs=[thai]), task("b", inputs=[f"“{thai}”"]))[0][0] == "instances"
    # Thai writes its vowels as marks: without them, texts that differ would be one.
    assert normalised("ที่") != normalised("ทู่")
    assert normalised("Ｆｕｌｌ  width\u200b\t(3+4)") == "full width 3+4"


NAMES = st.sampled_from(["t1", "T1", "t2", "t3"])
TASKS = st.lists(
    st.builds(
        task,
        NAMES,
        st.sampled_from(["Do this.", "do this", "Do it another way"]),
        st.lists(st.sampled_from([SENTENCE.format(i) for i in range(3)] + ["yes"]), min_size=1, max_size=4),
        st.lists(st.sampled_from(["a", "A;b", "c", "synthetic"]), max_size=2).map(tuple),
    ),
    max_size=4,
    unique_by=lambda made: made.name,
)


@settings(deadline=None)
@given(TASKS, TASKS, st.randoms(use_true_random=False), st.floats(0, 1))
def test_order_changes_nothing_and_thresholds_only_take_away(pool, test, random, threshold) -> None:
    leaks = text_leaks(pool, test, DEFAULT)
    assert text_leaks(random.sample(pool, len(pool)), random.sample(test, len(test)), DEFAULT) == leaks
    assert [EVIDENCE.index(leak.evidence) for leak in leaks] == sorted(EVIDENCE.index(leak.evidence) for leak in leaks)
    low, high = (
        {
            (leak.evidence, leak.pool_task, leak.test_task)
            for leak in text_leaks(
                pool, test, LeakageSettings(max_definition_similarity=value, max_shared_instances=value)
            )
        }
        for value in (threshold * 0.5, threshold)
    )
    assert high <= low


def test_leaking_tasks_leave_the_pool_with_their_strongest_reason() -> None:
    a, b, c, t = (task(name) for name in "abct")
    records = tuple(TaskRecord(made.name, "pool", "A", 9, 4, "") for made in (a, b, c))
    sets = TaskSets((a, b, c), (t,), (*records, TaskRecord("t", "test", "A", 9, 4, "")), ())
    leaks = [
        Leak("a", "t", "embedding", 0.97, "has cosine 0.970"),
        Leak("c", "t", "definition", 0.96, "shares 96.0% of its definition"),
        Leak("a", "t", "source", 1.0, "shares source squad"),
    ]
    left = without_leaks(sets, leaks)
    assert (left.pool, left.test) == ((b,), (t,))
    assert {(r.task, r.role, r.num_instances, r.num_drawn, r.reason) for r in left.dropped} == {
        ("a", "dropped", 9, 0, "leak: shares source squad with test task t (and 1 more in leaks.parquet)"),
        ("c", "dropped", 9, 0, "leak: shares 96.0% of its definition with test task t"),
    }
    assert [record for record in left.records if record.task in "bt"] == [records[1], sets.records[-1]]
    with pytest.raises(CorpusError, match=r"would empty the pool: each of its 3 tasks leaks .*a shares source squad"):
        without_leaks(sets, [*leaks, replace(leaks[0], pool_task="b")])


def test_the_table_keeps_its_columns_when_empty() -> None:
    leak = Leak("a", "t", "source", 1.0, "shares source squad")
    assert leaks_table([leak]).schema == leaks_table([]).schema
    assert leaks_table([leak]).to_pylist() == [
        {"pool_task": "a", "test_task": "t", "evidence": "source", "value": 1.0, "detail": "shares source squad"}
    ]


def test_a_task_in_both_lists_is_a_test_task_only(tmp_path) -> None:
    (tmp_path / "splits/default").mkdir(parents=True)
    for name in "ab":
        content = {"Definition": name, "Categories": ["A"], "Instances": [{"input": "x", "output": "y"}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "splits/default/train_tasks.txt").write_text("a\nb")
    (tmp_path / "splits/default/test_tasks.txt").write_text("b")
    corpus, evaluation = CorpusSettings(path=str(tmp_path), min_instances=1), EvaluationSettings()
    sets = build_task_sets(corpus, evaluation, policy="remove")
    assert [[made.name for made in side] for side in (sets.pool, sets.test)] == [["a"], ["b"]]
    assert sets.shared_names == ("b",)
    assert [(record.task, record.role) for record in sets.records] == [("a", "pool"), ("b", "dropped"), ("b", "test")]
    assert sets.records[1].reason == "leak: shares its name with test task b"
    with pytest.raises(CorpusError, match=r"\(b\). Remove them from one of the lists, or .* leakage: remove"):
        build_task_sets(corpus, evaluation)
    with pytest.raises(CorpusError, match=r"\(b\); leakage: allow cannot keep them"):
        build_task_sets(corpus, evaluation, policy="allow")


def test_the_demo_is_clean_and_the_public_split_is_known(shared_data) -> None:
    demo = build_task_sets(CorpusSettings(min_instances=1), EvaluationSettings())
    assert text_leaks(demo.pool, demo.test, DEFAULT) == ()
    public = build_task_sets(CorpusSettings(path=str(shared_data / "sup-natinst")), EvaluationSettings())
    leaks = text_leaks(public.pool, public.test, DEFAULT)
    assert {(leak.evidence, leak.detail) for leak in leaks} == {
        ("source", "shares source roc_stories"),
        ("source", "shares source enhanced_wsc"),
    }
    assert len(leaks) == 12
    assert len({leak.pool_task for leak in leaks}) == 7
