"""Recommendations against brute force: order, gains and every number of a row, from vectors in files."""

import csv
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from simtune.embedding.cache import Encoded
from simtune.errors import UserError
from simtune.progress import Quiet
from simtune.recommend.from_request import RecommendationRequest, recommend_from_request
from simtune.recommend.tables import render_explanation, render_recommendations, write_recommendations
from simtune.storage.parquet_files import read_table


def written(path, vectors, categories=None):
    """A file of embeddings from vectors by name."""
    names = list(vectors)
    columns = {"task": names, "embedding": pa.array([list(map(float, vectors[name])) for name in names])}
    if categories:
        columns["category"] = [categories[name] for name in names]
    pq.write_table(pa.table(columns), path)
    return str(path)


def drawn(prefix, count, seed, dimensions=5):
    generator = np.random.default_rng([seed, ord(prefix)])
    vectors_ND = generator.normal(size=(count, dimensions)).astype(np.float32) + np.float32(0.3)
    return {f"{prefix}{number:02}": row for number, row in enumerate(vectors_ND)}


def asked(pool, candidates, target=None, size=5, encode=None, **options):
    request = RecommendationRequest(pool, candidates, target, size, **options)
    return recommend_from_request(request, SimpleNamespace(encode_texts=encode), Quiet())


def cosines(vectors):
    unit = {name: v.astype(float) / np.linalg.norm(v.astype(float)) for name, v in vectors.items()}
    return {pair: float(unit[pair[0]] @ unit[pair[1]]) for pair in itertools.product(vectors, vectors)}


def nearest(cosine, task, others):
    return max((cosine[task, other] for other in others), default=0.0)


class Brute:
    """Objectives computed directly from their definitions."""

    def __init__(self, pool, candidates, target):
        self.pool, self.candidates, self.target = list(pool), list(candidates), list(target)
        self.everything = self.pool + self.candidates
        self.cosine = cosines({**pool, **candidates, **target})

    def coverage(self, chosen):
        return float(np.mean([max(0.0, nearest(self.cosine, task, chosen)) for task in self.target]))

    def facility_location(self, chosen):
        return sum(max(0.0, nearest(self.cosine, task, chosen)) for task in self.everything)

    def dispersion(self, chosen):
        return sum(1 - self.cosine[pair] for pair in itertools.combinations(chosen, 2))

    def graph_cut(self, chosen):
        to_all = sum(self.cosine[pair] for pair in itertools.product(self.everything, chosen))
        return to_all - 0.3 * sum(self.cosine[pair] for pair in itertools.product(chosen, chosen))

    def log_det(self, chosen):
        similarity = np.array([[self.cosine[a, b] for b in chosen] for a in chosen])
        return float(np.linalg.slogdet(similarity + 0.05 * np.eye(len(chosen)))[1])

    def gain(self, objective, chosen, task):
        to_target = [self.cosine[task, other] for other in self.target]
        alone = {
            "max-min": lambda: 1 - nearest(self.cosine, task, chosen),
            "near-target": lambda: float(np.mean(to_target)),
            "near-target(by=max)": lambda: max(to_target),
        }
        if objective in alone:
            return alone[objective]()
        value = {
            None: self.coverage if self.target else self.facility_location,
            "facility-location": self.facility_location,
            "min-sum": self.dispersion,
            "graph-cut(lambda=0.3)": self.graph_cut,
            "log-det(ridge=0.05)": self.log_det,
        }[objective]
        return value([*chosen, task]) - value(chosen)

    def greedy(self, objective, size):
        chosen, gains = list(self.pool), []
        for _ in range(size):
            open_tasks = [task for task in self.candidates if task not in chosen]
            gain = {task: self.gain(objective, chosen, task) for task in open_tasks}
            best = max(gain, key=lambda task: round(gain[task], 9))
            chosen.append(best)
            gains.append(gain[best])
        return chosen[len(self.pool) :], gains


OBJECTIVES = [
    None, "facility-location", "min-sum", "max-min", "graph-cut(lambda=0.3)", "log-det(ridge=0.05)", "near-target",
    "near-target(by=max)",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_order_and_gains_are_those_of_brute_force(tmp_path, objective, seed):
    pool, candidates, target = drawn("p", 6, seed), drawn("c", 9, seed), drawn("t", 12, seed)
    brute = Brute(pool, candidates, target)
    files = [
        written(tmp_path / f"{name}.parquet", v) for name, v in zip("pct", (pool, candidates, target), strict=True)
    ]
    found, _ = asked(*files, size=4, objective=objective)
    order, gains = brute.greedy(objective, 4)
    assert [row.task for row in found.rows] == order
    assert [row.gain for row in found.rows] == pytest.approx(gains, abs=1e-8)

    for rank, row in enumerate(found.rows):
        before, after = [*pool, *order[:rank]], [*pool, *order[: rank + 1]]
        coverage = brute.coverage(before), brute.coverage(after)
        assert (row.rank, row.coverage_before, row.coverage_after) == (rank + 1, *map(pytest.approx, coverage))
        assert row.coverage_gain == pytest.approx(coverage[1] - coverage[0], abs=1e-8)
        like = max(pool, key=lambda name: brute.cosine[row.task, name])
        assert (row.nearest, row.nearest_cosine) == (like, pytest.approx(brute.cosine[row.task, like]))
        rises = {}
        for name in target:
            low, high = (max(0.0, nearest(brute.cosine, name, tasks)) for tasks in (before, after))
            if high - low > 1e-9:
                rises[name] = (low, high)
        most = sorted(rises, key=lambda name: rises[name][0] - rises[name][1])[:3]
        assert row.num_improved == len(rises)
        assert [rise.task for rise in row.most_improved] == most
        for rise in row.most_improved:
            assert (rise.before, rise.after) == pytest.approx(rises[rise.task], abs=1e-8)
        if most:
            low, high = rises[most[0]]
            assert f"{most[0]} ({low:.2f} -> {high:.2f})" in row.reason


def test_without_a_target_facility_location_names_which_candidates_a_task_represents(tmp_path):
    pool, candidates = drawn("p", 4, 0), drawn("c", 10, 0)
    found, _ = asked(written(tmp_path / "p.parquet", pool), written(tmp_path / "c.parquet", candidates), size=3)
    brute = Brute(pool, candidates, {})
    order, gains = brute.greedy(None, 3)
    assert [row.task for row in found.rows] == order
    assert [row.gain for row in found.rows] == pytest.approx(gains, abs=1e-8)
    first = found.rows[0]
    assert (first.coverage_before, first.num_improved, first.most_improved) == (None, None, ())
    risen = [
        name for name in candidates
        if name != order[0] and brute.cosine[name, order[0]] > max(0.0, nearest(brute.cosine, name, pool))
    ]  # fmt: skip
    assert f"represents {len(risen)} other candidates, most of all " in first.reason


# Axes: the pool is a, the target b and c; d is in no target.
A, B, C, D = np.eye(4, dtype=np.float32)


def test_tasks_that_add_no_coverage_follow_by_facility_location_with_a_note(tmp_path):
    candidates = {"c_c": C, "c_twin": C, "x_d": D, "y_d": 2 * D, "z_ad": A + D, "old": A}
    files = [
        written(tmp_path / "p.parquet", {"old": A, "older": A + 0.01 * D}, {"old": "K", "older": "K"}),
        written(tmp_path / "c.parquet", candidates, dict.fromkeys(candidates, "L")),
        written(tmp_path / "t.parquet", {"want_b": B, "want_c": C}),
    ]
    found, _ = asked(*files, size=9)
    assert (found.num_pool, found.num_candidates, found.num_target) == (2, 5, 2)
    # After c_c, covering x_d and y_d (1 each) and a part of z_ad is worth most; equal gains go to the earlier name.
    assert [(row.task, row.objective, row.gain) for row in found.rows] == [
        ("c_c", "near-target(by=coverage)", 0.5),
        ("x_d", "facility-location", pytest.approx(1.98, abs=1e-3)),
        ("z_ad", "facility-location", pytest.approx(1 - 1.01 * np.sqrt(0.5), abs=1e-3)),
        ("c_twin", "facility-location", 0.0),
        ("y_d", "facility-location", 0.0),
    ]
    assert found.rows[0].reason == (
        "similar to nothing in the pool (nearest: old, 0.00); "
        "improves the coverage of target task want_c (0.00 -> 1.00)"
    )
    assert (
        "improves the coverage of no target task; represents other candidate y_d (0.01 -> 1.00)" in found.rows[1].reason
    )
    assert "a near-duplicate of rank 1 (1.00)" in found.rows[3].reason
    assert found.rows[0].category == "L"
    assert list(found.notes) == [
        "1 of 6 candidates left out: already in the pool",
        "for 1 of 2 target tasks no candidate is more similar than the pool: want_b",
        "9 tasks requested, 5 available",
        "after rank 1 no candidate adds to the coverage of the target; the others are ordered by facility-location",
    ]
    only_d = written(tmp_path / "d.parquet", {"x_d": D, "close": A + 0.1 * D, "want_b": -B})
    found, _ = asked(files[0], only_d, files[2], size=3)
    assert "no candidate adds to the coverage of the target; they are ordered by facility-location" in found.notes
    assert "1 candidate is also in the target (want_b)" in found.notes
    assert {row.task: row.near_duplicate for row in found.rows} == {"x_d": False, "close": True, "want_b": False}
    assert next(row.reason for row in found.rows if row.task == "close").startswith(
        "a near-duplicate of older in the pool"
    )


def test_the_order_of_the_input_and_options_of_the_arm(tmp_path):
    parts = {"p": drawn("p", 8, 1), "c": drawn("c", 12, 1), "t": drawn("t", 5, 1)}
    parts["c"] |= {"d00": parts["c"]["c03"], "d01": parts["p"]["p00"]}
    categories = {name: "odd" if name.endswith(("1", "3")) else "even" for part in parts.values() for name in part}
    generator = np.random.default_rng(0)
    answers = set()
    for trial in range(3):
        shuffled = {
            label: {name: part[name] for name in generator.permutation(sorted(part)).tolist()}
            for label, part in parts.items()
        }
        files = [written(tmp_path / f"{label}{trial}.parquet", part, categories) for label, part in shuffled.items()]
        for objective in (None, "max-min", "facility-location(cosine=centred)"):
            found, shown = asked(*files, size=14, objective=objective, explained="c01")
            answers.add(
                json.dumps(
                    [row.__dict__ | {"most_improved": str(row.most_improved)} for row in found.rows] + [str(shown)]
                )
            )
    assert len(answers) == 3
    found, _ = asked(*files, size=14, objective="max-min(max_pair_similarity=0.99, per_category_cap=9)")
    left = [row.task for row in found.rows]
    assert "d01" not in left
    assert not {"d00", "c03"} <= set(left)
    odd = sum(categories[name] == "odd" for name in (*parts["p"], *left))
    assert odd <= 9
    assert any(note.startswith("the options of max-min") for note in found.notes)


def test_a_task_is_explained_by_its_neighbours(tmp_path):
    pool, candidates, target = drawn("p", 8, 2), drawn("c", 9, 2), drawn("t", 3, 2)
    candidates["p01"], target["p01"] = -pool["p01"], pool["p01"]
    files = [
        written(tmp_path / f"{name}.parquet", v) for name, v in zip("pct", (pool, candidates, target), strict=True)
    ]
    found, shown = asked(*files, size=9, explained="c04")
    del candidates["p01"]
    brute = Brute(pool, candidates, {name: target[name] for name in ("t00", "t01", "t02")} | {"p01": pool["p01"]})
    for place, part in (("pool", pool), ("candidates", candidates), ("target", target)):
        expected = sorted(set(part) - {"c04"}, key=lambda name: -brute.cosine["c04", name])[:5]
        assert [other.task for other in shown.neighbours[place]] == expected
        assert [other.cosine for other in shown.neighbours[place]] == pytest.approx(
            [brute.cosine["c04", name] for name in expected]
        )
    assert shown.found_in == ("candidates",)
    assert shown.recommendation == next(row for row in found.rows if row.task == "c04")
    _, shown = asked(*files, explained="p01")
    assert (shown.found_in, shown.recommendation) == (("pool", "target"), None)
    assert "p01" not in [other.task for part in shown.neighbours.values() for other in part]


def letters(texts, resolved, batch_size, on_progress):
    """An encoder for tests: how often each letter occurs in a text."""
    on_progress(len(texts), len(texts))
    counts = [np.array([text.lower().count(chr(97 + letter)) for letter in range(26)], np.float32) for text in texts]
    return [Encoded(count / np.linalg.norm(count), len(text), 20) for count, text in zip(counts, texts, strict=True)]


@pytest.fixture
def encoder(tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    save_file({}, folder / "x.safetensors")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    return str(folder)


def test_definitions_alone_are_enough(tmp_path, encoder):
    (tmp_path / "have").mkdir()
    for name, definition in (("gu_en", "guguguju"), ("sum", "summa")):
        (tmp_path / "have" / f"{name}.json").write_text(json.dumps({"Definition": definition}))
    lines = [{"task": name, "definition": text} for name, text in (("new", "zzz"), ("gu_en", "x"), ("gu_xx", "guj"))]
    (tmp_path / "could.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "want.jsonl").write_text(json.dumps({"task": "sum", "definition": "zaz" + "z" * 20}))
    places = [str(tmp_path / name) for name in ("have", "could.jsonl", "want.jsonl")]
    options = {"encode": letters, "encoder": encoder, "storage": str(tmp_path / "runs")}
    found, shown = asked(*places, size=1, explained="new", **options)
    # `sum` is a task of the pool and another one of the target: each has its own vector.
    (row,) = found.rows
    assert (row.task, row.coverage_after) == ("new", pytest.approx(22 / np.sqrt(22**2 + 1)))
    assert shown.neighbours["pool"][0].definition in ("guguguju", "summa")
    assert list(found.notes) == [
        f"{places[2]}: 1 text is longer than the encoder's 20 tokens",
        "1 of 3 candidates left out: already in the pool",
    ]
    again, _ = asked(*places, size=1, **options | {"encode": None})
    assert again == found
    noted, _ = asked(*places, size=1, fields="definition,positive", **options)
    assert f"{places[0]}: 2 tasks have no positive: less comparable with others" in noted.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "--size: 0"),
        (
            {"objective": "random"},
            "--objective: 'random' is not a strategy that gives each task a gain. Choose one of different, ",
        ),
        ({"objective": "max_min"}, "did you mean 'max-min'"),
        ({"objective": "graph-cut(lambda)"}, "--objective: .*name=value"),
        ({"objective": "graph-cut(lambda=-1)"}, "lambda: -1 is not a number of at least 0"),
        ({"objective": "max-min(include=[c00])"}, "start and include have no effect here"),
        ({"objective": "max-min(exclude=[c99])"}, "exclude: the pool has no task 'c99'"),
        ({"target": None, "objective": "near-target"}, "needs a target; give --target"),
        (
            {"fields": "definition,title"},
            "--fields: 'title' is not a field of a task; choose from category, definition",
        ),
        ({"fields": "definition,definition"}, "names a field twice"),
        ({"target": "flat"}, r"--target .*flat.parquet: 3 dimensions, but POOL .*pool.parquet has 5; embed all"),
        ({"candidates": "pool"}, "its 4 tasks are already in .*pool.parquet"),
        ({"explained": "c000"}, "--explain: no task 'c000' in .*; did you mean 'c00'"),
        ({"candidates": "nowhere"}, "nowhere.parquet: no such file of embeddings"),
    ],
)
def test_wrong_input_is_refused_with_its_location(tmp_path, changes, message):
    vectors = {"pool": drawn("p", 4, 0), "candidates": drawn("c", 4, 0), "flat": drawn("t", 2, 0, dimensions=3)}
    files = {name: written(tmp_path / f"{name}.parquet", part) for name, part in vectors.items()}
    given = {"pool": "pool", "candidates": "candidates", "target": "candidates"} | changes
    for role in ("pool", "candidates", "target"):
        name = given[role]
        given[role] = name and files.get(name, str(tmp_path / f"{name}.parquet"))
    with pytest.raises(UserError, match=message):
        asked(**given)


def test_tables_fit_and_files_hold_the_rows(tmp_path):
    evil = ["[red]a[/]", "=1+2", "ünï" + "x" * 90, 'c, "quoted"']
    candidates = dict(zip(evil, drawn("c", 4, 0).values(), strict=True))
    pool = written(tmp_path / "p.parquet", drawn("p", 5, 0))
    files = [written(tmp_path / "c.parquet", candidates, {name: name * 2 for name in evil})]
    files.append(written(tmp_path / "t.parquet", drawn("t", 3, 0)))
    found, shown = asked(pool, *files, size=4, explained=evil[2])
    console = Console(width=160, record=True, highlight=False)
    for part in (*render_recommendations(found), *render_explanation(shown)):
        console.print(part)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 160
    assert all(f"{row.gain:.4f}" in text and f"{row.coverage_after:.4f}" in text for row in found.rows)
    assert "[red]a[/]" in text
    assert "\x1b" not in text

    write_recommendations(tmp_path / "next.parquet", found)
    write_recommendations(tmp_path / "next.csv", found)
    rows = read_table(tmp_path / "next.parquet").to_pylist()
    with (tmp_path / "next.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == [row.task for row in found.rows]
    assert [line["task"].removeprefix("'") for line in lines] == [row.task for row in found.rows]
    assert next(line["task"] for line in lines if "1+2" in line["task"]) == "'=1+2"
    assert [float(line["gain"]) for line in lines] == [row.gain for row in found.rows] == [row["gain"] for row in rows]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"][0]["task"] == found.rows[0].task
    with pytest.raises(UserError, match=r"next.txt: give the name of a file that ends in .csv or .parquet"):
        write_recommendations(tmp_path / "next.txt", found)
