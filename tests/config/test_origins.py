"""Errors of checks that come long after a sweep file was read name its line, or the option that set the field."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from simtune.config.loading import read_sweep
from simtune.errors import ConfigError, CorpusError, ModelError, UserError
from simtune.grid.grid_points import with_resolved_encoding
from simtune.planning.plan import plan_sweep
from simtune.prompting.tokenizer import train_tokenizer
from simtune.training.model import resolve_model

SWEEP = """\
name: s
model:
  init: random
  tokenizer: pool
  config: {d_model: 16, d_modl: 16, num_layers: two}
encoding:
  format: tk-instruct
  positives: 1
  negative: many
"""


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return path


def refusal(path: Path, *overrides: str) -> list[str]:
    """The lines of the error that `simtune plan` prints."""
    sweep, origins = read_sweep(path, overrides)
    with pytest.raises(UserError) as caught, origins.in_errors():
        plan_sweep(sweep)
    return str(caught.value).splitlines()


def test_wrong_keys_and_values_of_a_prompt_format_have_their_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, SWEEP)
    sweep, origins = read_sweep(path)
    with pytest.raises(ConfigError) as caught, origins.in_errors():
        with_resolved_encoding(sweep)
    key, value = sorted(str(caught.value).splitlines())
    assert key.startswith(f"{path}, line 8: encoding.positives: unknown key; did you mean 'positive'?")
    assert value.startswith(f"{path}, line 9: encoding.negative: 'many' is wrong: expected a whole number")


def test_a_wrong_key_of_a_section_that_may_be_left_out_names_the_right_ones(tmp_path: Path) -> None:
    expected = r"mixture\.proportional\.kap: unknown key; did you mean 'mixture\.proportional\.cap'\? Known here: cap, "
    with pytest.raises(ConfigError, match=expected):
        read_sweep(file_of(tmp_path, "name: s\nmixture:\n  proportional:\n    kap: 3\n"))


def test_wrong_keys_and_values_of_a_model_configuration_have_their_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, SWEEP)
    sweep, origins = read_sweep(path)
    with pytest.raises(ConfigError) as caught, origins.in_errors():
        resolve_model(sweep.model, train_tokenizer((), 300))
    value, key = sorted(str(caught.value).splitlines(), key=len)
    assert value.startswith(f"{path}, line 5: model.config.num_layers: 'two' is wrong: expected")
    assert key.startswith(f"{path}, line 5: model.config.d_modl: unknown key; did you mean 'd_model'?")


DEMO = "name: s\nmodel: {init: random, tokenizer: pool}\ncorpus:\n  min_instances: 1\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("encoding:\n  positives: 1", "line 6: encoding.positives: unknown key"),
        ("encoding: {format: tk-instrct}", "line 5: encoding.format: unknown prompt format 'tk-instrct'; did you mean"),
        ("evaluation:\n  suites:\n  - name: a\n  - name: b\n    encoding:\n      positives: 1",
         "line 10: evaluation.suites.1.encoding.positives: unknown key"),
        ("evaluation:\n  suites:\n    name: a\n    categories: [Nothing]",
         "line 8: evaluation.suites.0.categories: suite 'a': no test task has the category 'Nothing'"),
        ("evaluation:\n  suites:\n  - name: a\n  - name: b\n    split: nothing",
         "line 9: evaluation.suites.1.split: demo: no such split 'nothing'; known splits: default"),
        ("grid:\n  evaluation.suites: [[{name: a}], [{name: a, split: nothing}]]",
         "line 6: evaluation.suites.0.split: demo: no such split 'nothing'; known splits: default"),
        ("grid:\n  training.epochs: [1, 2]\n  encoding.positive: [1, many]",
         "line 7: encoding.positive: 'many' is wrong"),
        ("grid:\n  model.config.d_model: [8, many]", "line 6: model.config.d_model: 'many' is wrong"),
        ("grid:\n  training.epochs: [1, 0]", "line 6: grid.training.epochs: 0 is wrong"),
        ("grid:\n  training.keep: [last]", "line 6: grid.training.keep: does not affect results"),
        ("selection:\n  strategies:\n  - random\n  - differnt",
         "line 6: selection.strategies: unknown strategy 'differnt'; did you mean 'different'?"),
        ("selection:\n  exclude: [taks]", "line 6: selection.exclude: strategy"),
        ("selection:\n  strategies:\n  - random\n  - {strategy: random, label: r, exclude: [taks]}",
         "line 6: selection.strategies: strategy random: exclude: the pool has no task 'taks'"),
        ("embedding:\n  encoder: /nowhere", "line 6: embedding.encoder: /nowhere: no such folder"),
    ],
)  # fmt: skip
def test_later_checks_name_the_line(tmp_path: Path, lines: str, expected: str) -> None:
    path = file_of(tmp_path, DEMO + lines)
    assert refusal(path)[0].startswith(f"{path}, {expected}")


@pytest.mark.parametrize(
    ("holdout", "expected"),
    [
        ("{categories: [Nothing]}", "line 5: corpus.holdout.categories: no task of demo"),
        ("{task: [nothing]}", "line 5: corpus.holdout.task: demo"),
        ("{split: nothing}", "line 5: corpus.holdout.split: demo: no such split 'nothing'; known splits: default"),
    ],
)
def test_hold_outs_name_the_line(tmp_path: Path, holdout: str, expected: str) -> None:
    path = file_of(tmp_path, f"{DEMO}  holdout: {holdout}\n")
    assert refusal(path)[0].startswith(f"{path}, {expected}")


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("encoding.positives=1", "encoding.positives: unknown key"),
        ("encoding={positives: 1}", "encoding.positives: unknown key"),
        ("model.config.d_modl=8", "model.config.d_modl: unknown key"),
        ("corpus.holdout={categories: [Nothing]}", "corpus.holdout.categories: no task"),
        ("selection.strategies=differnt", "selection.strategies: unknown strategy 'differnt'"),
        ("grid.encoding.positives=[1]", "encoding.positives: unknown key"),
    ],
)
def test_an_option_is_named_instead_of_a_line(tmp_path: Path, override: str, field: str) -> None:
    path = file_of(tmp_path, DEMO)
    assert refusal(path, override)[0].startswith(f"--set {override}: {field}")


@pytest.mark.parametrize(
    ("lines", "overrides", "line", "places"),
    [
        ("model:\n  init: random\n  config:\n    d_model: 16", ["model.init=pretrained"], "line 2: model: sets",
         "{path}, line 4: model.config; --set model.init=pretrained: model.init"),
        ("model:\n  init: pretrained", ["model.tokenizer=pool"], "line 2: model: asks for a tokenizer of the pool",
         "--set model.tokenizer=pool: model.tokenizer; {path}, line 3: model.init"),
        ("model:\n  tokenizer: pool", [], "line 2: model: asks for a tokenizer of the pool",
         "{path}, line 3: model.tokenizer"),
        ("mixture:\n  oversample: 5", ["mixture.examples_per_epoch=7"], "line 2: mixture: has oversample and",
         "{path}, line 3: mixture.oversample; --set mixture.examples_per_epoch=7: mixture.examples_per_epoch"),
        ("mixture:\n  oversample: 5", ["mixture.proportional={}"], "line 2: mixture: has 2 rules",
         "{path}, line 3: mixture.oversample; --set mixture.proportional={}: mixture.proportional"),
        ("corpus:\n  holdout:\n    split: default", ["corpus.holdout.task=a"], "line 3: corpus.holdout: names 2",
         "{path}, line 4: corpus.holdout.split; --set corpus.holdout.task=a: corpus.holdout.task"),
        ("selection:\n  include: [a]", ["selection.exclude=[a]"], "line 2: selection: has a in include or start",
         "{path}, line 3: selection.include; --set selection.exclude=[a]: selection.exclude"),
        ("training:\n  batch_size: 16", ["resources.workers=3"], "line 3: training.batch_size: 16 does not divide",
         "--set resources.workers=3: resources.workers"),
        ("resources:\n  workers: 3", [], "s.yaml: training.batch_size: 16 does not divide",
         "{path}, line 3: resources.workers"),
        ("training:\n  offload: optimizer", ["training.zero_stage=0"], "line 2: training: has offload: optimizer at",
         "{path}, line 3: training.offload; --set training.zero_stage=0: training.zero_stage"),
        ("resources:\n  workers: 2", ["resources.gpus_per_worker=0.5"], "line 2: resources: has gpus_per_worker",
         "--set resources.gpus_per_worker=0.5: resources.gpus_per_worker; {path}, line 3: resources.workers"),
        ("corpus:\n  min_instances: 5", ["evaluation.held_in=5"], "evaluation.held_in: 5 leaves nothing",
         "{path}, line 3: corpus.min_instances"),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other_have_their_places(
    tmp_path: Path, lines: str, overrides: list[str], line: str, places: str
) -> None:
    path = file_of(tmp_path, f"name: s\n{lines}\n")
    with pytest.raises(ConfigError) as caught:
        read_sweep(path, overrides)
    assert line in str(caught.value)
    assert str(caught.value).endswith(f" ({places.replace('{path}', str(path))})")


def test_fields_of_one_line_have_no_further_places(tmp_path: Path) -> None:
    path = file_of(tmp_path, "name: s\nmodel: {tokenizer: pool}\n")
    with pytest.raises(ConfigError, match=r"set init: random$"):
        read_sweep(path)


def test_a_default_that_is_wrong_has_the_line_of_its_section_or_none(tmp_path: Path) -> None:
    _, origins = read_sweep(file_of(tmp_path, "name: s\nmodel:\n  init: random\n"))
    assert origins.of_dotted("model.name").endswith("s.yaml, line 2")
    assert [origins.of_dotted(field) for field in ("training.epochs", "--strategy", "/a/folder", "")] == [""] * 4


def test_the_type_of_the_error_and_its_other_lines_stay(tmp_path: Path) -> None:
    _, origins = read_sweep(file_of(tmp_path, "name: s\nmodel:\n  init: random\n"))
    for error in (CorpusError, ModelError):
        with pytest.raises(error, match=r"s\.yaml, line 2: model\.name: a\nb$"), origins.in_errors():
            raise error("a\nb", field="model.name")
    with pytest.raises(UserError, match=r"^no field$"), origins.in_errors():
        raise UserError("no field")
    with pytest.raises(ValueError, match=r"^another$"), origins.in_errors():
        raise ValueError("another")


def test_the_field_of_an_error_from_another_process_is_kept(tmp_path: Path) -> None:
    _, origins = read_sweep(file_of(tmp_path, "name: s\nmodel:\n  init: random\n"))
    sent = pickle.loads(pickle.dumps(ModelError("a", field="model.init", others=[("model.name", "b")])))
    assert str(sent) == "model.init: a\nmodel.name: b"
    assert str(sent.with_origins(origins.of_dotted)).endswith("line 2: model.name: b")
