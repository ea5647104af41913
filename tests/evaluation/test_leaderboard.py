import io
import json

import pytest
import tokenizers
from rich.console import Console
from rouge_score.rouge_scorer import RougeScorer

from simtune.errors import CorpusError, ModelError
from simtune.evaluation.leaderboard import LeaderboardReport, read_predictions, read_references, score_files
from simtune.evaluation.tables import render_report


def reference(instance_id="i1", **fields):
    return {
        "id": instance_id,
        "references": ["yes"],
        "task_id": "task1_entailment",
        "task_category": "Textual Entailment",
        "track": "default",
        **fields,
    }


TITLE = {"task_id": "task2_title", "task_category": "Title Generation"}


JAPANESE = {"task_id": "task3_ja", "task_category": "Title Generation", "track": "xlingual"}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path):
    def write(references, predictions):
        return (
            write_lines(tmp_path / "references.jsonl", references),
            write_lines(tmp_path / "predictions.jsonl", [{"id": k, "prediction": v} for k, v in predictions.items()]),
        )

    return write


def official_metrics(report: LeaderboardReport) -> dict[str, float]:
    """The flat dictionary that the official script writes, with its keys and its four places."""
    keys = {"exact-match": "exact_match", "rouge-l": "rougeL"}
    metrics = {}
    for track in report.tracks:
        groups = [("", track.scores.overall)]
        groups += [(f"for_{group.name}_", group) for group in (*track.scores.categories, *track.scores.tasks)]
        for what, group in groups:
            for metric, key in keys.items():
                metrics[f"{key}_{what}{track.track}_track"] = round(group.values[metric], 4)
    return metrics


def test_the_official_numbers_of_a_prediction_file(files):
    report = score_files(
        *files(
            [reference("i1"), reference("i2"), reference("i3", **TITLE, references=["a small dog", "cats"])],
            {"i1": "Yes.", "i3": "a big dog", "i99": "nobody asked"},
        )
    )
    assert report.num_unknown == 1
    assert [track.num_missing for track in report.tracks] == [1]
    # What the official script prints, key by key: "i2" is missing and counts as an empty prediction.
    assert official_metrics(report) == {
        "exact_match_default_track": 33.3333,
        "rougeL_default_track": 55.5556,
        "exact_match_for_textual_entailment_default_track": 50.0,
        "rougeL_for_textual_entailment_default_track": 50.0,
        "exact_match_for_title_generation_default_track": 0.0,
        "rougeL_for_title_generation_default_track": 66.6667,
        "exact_match_for_task1_entailment_default_track": 50.0,
        "rougeL_for_task1_entailment_default_track": 50.0,
        "exact_match_for_task2_title_default_track": 0.0,
        "rougeL_for_task2_title_default_track": 66.6667,
    }
    assert report.to_dict()["tracks"][0]["overall"]["rouge_l"] == pytest.approx(500 / 9)
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_cross_lingual_track_is_scored_over_bpe_tokens(files, byte_level_tokenizer):
    prediction, gold = "東京の 天気  です The cat", "東京の天気は 晴れです  the cat"
    paths = files(
        [reference("i1"), reference("j1", **JAPANESE, references=[gold])],
        {"i1": "yes", "j1": prediction},
    )
    report = score_files(*paths, xlingual_tokenizer=str(byte_level_tokenizer))
    assert [track.track for track in report.tracks] == ["default", "xlingual"]

    class Official:
        tokenizer = tokenizers.Tokenizer.from_file(str(byte_level_tokenizer / "tokenizer.json"))

        def tokenize(self, text):
            return [token.lstrip("Ġ") for token in self.tokenizer.encode(text).tokens]

    assert "" in Official().tokenize(prediction), "a token of spaces only becomes the empty token and counts"
    scorer = RougeScorer(["rougeL"], tokenizer=Official())
    expected = 100 * scorer.score(target=gold, prediction=prediction)["rougeL"].fmeasure
    assert 0 < expected < 100
    assert report.tracks[1].scores.overall.values["rouge-l"] == pytest.approx(expected, abs=1e-9)


def test_one_track_alone_needs_neither_the_other_one_nor_its_tokenizer(files):
    paths = files([reference("i1"), reference("j1", **JAPANESE)], {"i1": "yes", "j1": "x"})
    report = score_files(*paths, track="default", xlingual_tokenizer="/no/such/folder")
    assert [track.track for track in report.tracks] == ["default"]
    assert report.num_unknown == 0, "a prediction for the other track is not unknown"
    with pytest.raises(
        ModelError, match=r"/no/such/folder.*tokenizer\.json.*vocab\.json.*merges\.txt.*--xlingual-tokenizer"
    ):
        score_files(*paths, xlingual_tokenizer="/no/such/folder")


def test_a_track_without_instances_is_an_error(files):
    with pytest.raises(CorpusError, match="no instance of track 'xlingual'; it has default"):
        score_files(*files([reference()], {"i1": "yes"}), track="xlingual")


def test_a_track_is_default_where_the_line_names_none_and_blank_lines_are_skipped(tmp_path):
    row = reference()
    del row["track"]
    path = tmp_path / "references.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n\n", encoding="utf-8")
    assert [line.track for line in read_references(path)] == ["default"]


def test_a_byte_order_mark_before_the_first_line_is_ignored(files):
    paths = files([reference()], {"i1": "Yes."})
    scores = score_files(*paths)
    for path in paths:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert score_files(*paths) == scores


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "i1", "prediction": "a\u2028b\x85c"}\r\n', encoding="utf-8")
    assert read_predictions(path) == {"i1": "a\u2028b\x85c"}


GOOD = b'{"id": "i1", "prediction": "x"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there are no JSON objects in it"),
        (b"\n\n", "there are no JSON objects in it"),
        (GOOD + b'{"id": "i2", "predict', "line 2: not valid JSON"),
        (GOOD + b"[" * 100_000, "line 2: not valid JSON"),
        (GOOD + b'["i2", "x"]', "line 2: expected a JSON object"),
        (GOOD + b'{"id": "i2"}', "line 2, field `prediction`: missing; the line has id"),
        (GOOD + b'{"id": 7, "prediction": "x"}', "line 2, field `id`: must be a string, got 7"),
        (GOOD + b'{"id": "i2", "prediction": null}', "line 2, field `prediction`: must be a string, got null"),
        (GOOD + b'{"id": "i2", "prediction": NaN}', "field `prediction`: must be a string, got NaN"),
        (GOOD + b'{"id": "i2", "prediction": "\\ud83d"}', "field `prediction`: character 0 is half of"),
        (
            GOOD + b'{"id": "i2", "id": "i3", "prediction": "x"}',
            "line 2: not valid JSON .the key 'id' is given twice",
        ),
        (GOOD + GOOD, "line 2, field `id`: 'i1' is a duplicate of line 1"),
        (GOOD + b'{"id": "i2", "prediction": "\xff"}', "line 2: not UTF-8 .byte 28"),
        (GOOD + b"\xef\xbb\xbf" + GOOD, "line 2: not valid JSON .*BOM"),
        (GOOD.decode().encode("utf-16"), "line 1: not UTF-8"),
    ],
)
def test_a_broken_prediction_file_is_one_error_that_names_file_line_and_field(tmp_path, content, message):
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"references": "yes"}, 'field `references`: must be a list of at least one string, got "yes"'),
        ({"references": []}, "field `references`: must be a list of at least one string"),
        ({"references": ["yes", 1]}, r"field `references\[1\]`: must be a string, got 1"),
        ({"track": "english"}, 'field `track`: must be one of default, xlingual, got "english"'),
        ({"task_category": ["Title Generation"]}, "field `task_category`: must be a string"),
    ],
)
def test_a_broken_reference_is_an_error_that_names_line_and_field(tmp_path, fields, message):
    path = write_lines(tmp_path / "references.jsonl", [reference("i1"), reference("i2", **fields)])
    with pytest.raises(CorpusError, match=f"line 2, {message}"):
        read_references(path)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(CorpusError, match=r"none\.jsonl: cannot be read .No such file"):
        read_references(tmp_path / "none.jsonl")


def test_the_tables_show_four_places_and_the_headline_metric(files):
    paths = files([reference("i1"), reference("i2", **TITLE | {"task_id": "task2_[bold]x"})], {"i1": "yes"})
    console = Console(width=200, record=True, file=io.StringIO())
    for table in render_report(score_files(*paths), tasks=True):
        console.print(table)
    text = console.export_text()
    assert "100.0000*" in text
    assert "mean over instances (official)" in text
    assert "50.0000" in text
    assert "1 of 2 instances without a prediction" in text
    assert "task2_[bold]x" in text
