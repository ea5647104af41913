"""The sweep file: every mistake is named with file, line and field, and nothing is read as something else."""

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simtune.config import Sweep, dump_sweep, expand_grid, load_sweep
from simtune.config.settings import accumulation_steps
from simtune.config.yaml_text import read_yaml, write_yaml
from simtune.errors import ConfigError
from simtune.storage.files import as_path


@pytest.fixture
def load(tmp_path):
    def load(text="name: s\n", *overrides, **options):
        path = tmp_path / "s.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_sweep(path, overrides, **options)

    return load


def test_defaults_are_the_values_of_the_paper(load):
    sweep = load("training: {epochs: 3}")
    assert sweep.name == "s"
    assert sweep.training.epochs == 3
    assert (sweep.training.learning_rate, sweep.training.batch_size) == (5.0e-5, 16)
    assert (sweep.encoding.format, sweep.encoding.end_of_source, sweep.corpus.min_instances) == (
        "tk-instruct",
        True,
        100,
    )
    assert sweep.selection.sizes[-1] == "all"


def test_paths_are_absolute_and_hub_names_stay(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    sweep = load("corpus: {path: data/x}\nmodel: {name: my-model}", storage="out")
    assert sweep.corpus.path == str(tmp_path / "data/x")
    assert sweep.model.name == str(tmp_path / "my-model")
    assert sweep.storage == str(tmp_path / "out")
    assert sweep.embedding.encoder == "sentence-transformers/all-MiniLM-L6-v2"
    assert load("corpus: {path: demo}").corpus.path == "demo"
    suites = "[{name: a, rouge_tokenizer: my-model}, {name: b, rouge_tokenizer: openai-community/gpt2}]"
    own, of_hub = load(f"evaluation: {{suites: {suites}}}").evaluation.suites
    assert (own.rouge_tokenizer, of_hub.rouge_tokenizer) == (str(tmp_path / "my-model"), "openai-community/gpt2")
    # Words that name no folder, whatever is in this one.
    (tmp_path / "pool").mkdir()
    swept = load(f"model: {{init: random}}\ngrid: {{model.tokenizer: [my-model, pool], evaluation.suites: [{suites}]}}")
    assert [point.sweep.model.tokenizer for point in expand_grid(swept)] == [str(tmp_path / "my-model"), "pool"]
    assert expand_grid(swept)[0].sweep.evaluation.suites == (own, of_hub)
    assert load("model: {init: random, tokenizer: pool}").model.tokenizer == "pool"


FIVE_FIELDS = ("training.epochs", "training.batch_size", "training.warmup_steps", "encoding.positive", "corpus.seed")
WRONG = {
    "unknown key": (
        "training:\n  epochs: 1\n  lerning_rate: 1\n",
        r"s\.yaml, line 3: training\.lerning_rate: unknown key; did you mean 'training\.learning_rate'\? Known",
    ),
    "unknown section": ("\n\ntrainng: {}\n", r"s\.yaml, line 3: trainng: .* did you mean 'training'\?"),
    "capital letter": ("Training: {}", r"line 1: Training: unknown key; did you mean 'training'\?"),
    "a letter no field has": ("ÿ: 1", r"line 1: ÿ: unknown key"),
    "impossible date": ("name: 2001-13-45", r"line 1, column 7: name: 2001-13-45 is a date in some readers of YAML"),
    "a number of 5000 digits": ("name: " + "9" * 5000, r"line 1, column 7: .* cannot be read as int"),
    "a user's home that is not there": ("storage: ~no-such-user/x", r"line 1: storage: '~no-such-user/x' cannot be a"),
    "text for a number": (
        "training:\n  epochs: two\n",
        r"line 2: training\.epochs: 'two' is wrong: expected a whole number of at least 1$",
    ),
    "quoted number": ("training: {epochs: '2'}", r"training\.epochs: '2' is wrong"),
    "2.0 epochs": ("training: {epochs: 2.0}", r"training\.epochs: 2\.0 is wrong"),
    "true for a number": ("training: {learning_rate: true}", r"training\.learning_rate: true is wrong"),
    "true for a stage": ("training: {zero_stage: true}", r"training\.zero_stage: true is wrong"),
    "a fraction for a stage": ("training: {zero_stage: 1.0}", r"training\.zero_stage: 1\.0 is wrong"),
    "true for a share": ("leakage: {max_shared_instances: true}", r"leakage\.max_shared_instances: true is wrong"),
    "text for a share": ("leakage: {max_similarity: '0.5'}", r"leakage\.max_similarity: '0\.5' is wrong"),
    "a number for a text": (
        "model: {revision: 1234567}",
        r"model\.revision: 1234567 is wrong: expected a string .*write it with quotes",
    ),
    "yes for a count": ("selection: {seeds: [true]}", r"selection\.seeds\.0: true is wrong"),
    "number for a flag": ("encoding: {end_of_source: 1}", r"encoding\.end_of_source: 1 is wrong"),
    "size 0": ("selection:\n  sizes:\n  - 10\n  - 0\n", r"line 4: selection\.sizes\.1: 0 is wrong"),
    "no sizes": ("selection: {sizes: []}", r"selection\.sizes: \[\] is wrong"),
    "nan": ("training: {learning_rate: .nan}", r"column 27: training\.learning_rate: \.nan is not a finite number"),
    "negative rate": (
        "training: {learning_rate: -1}",
        r"training\.learning_rate: -1 is wrong: expected a number above 0",
    ),
    "choice": (
        "model: {init: pretraned}",
        r"model\.init: 'pretraned' is wrong: expected one of pretrained, random; did you mean 'pretrained'\?",
    ),
    "section": ("training: 3", r"line 1: training: 3 is wrong"),
    "twice in a list": ("selection: {seeds: [0, 1, 0]}", r"selection\.seeds: lists a value twice: \[0, 1, 0\]"),
    "no hold-out": (
        "corpus: {holdout: {split: null}}",
        r"corpus\.holdout: names no hold-out: give one of split, categories",
    ),
    "two hold-outs": (
        "corpus: {holdout: {split: a, task: b}}",
        r"line 1: corpus\.holdout: names 2 hold-outs \(split, task\)",
    ),
    "sizes of a trained model": ("model: {config: {d_model: 8}}", "model: sets model.config"),
    "half a GPU for two": ("resources: {gpus_per_worker: 0.5, workers: 2}", "a fraction of a GPU needs one worker"),
    "two GPUs for one worker": ("resources: {gpus_per_worker: 2}", "a worker computes on one GPU.* set workers to"),
    "a crumb of a GPU": ("resources: {gpus_per_worker: 1.0e-6}", "no more than 100 trials share a GPU"),
    "shared folder": ("name: trials", "name: is 'trials', a folder that all runs"),
    "a path as name": ("name: a/b", "name: 'a/b' is wrong"),
    "batch over workers": (
        "training: {batch_size: 16}\nresources: {workers: 3}",
        r"training\.batch_size: 16 does not divide among resources\.workers: 3; make it a multiple of 3",
    ),
    "batch over micro-batches": (
        "training: {batch_size: 16, micro_batch_size: 3}\nresources: {workers: 2}",
        r"16 is not a multiple of resources\.workers \(2\) x training\.micro_batch_size \(3\).*divides 8",
    ),
    "nothing left to train on": (
        "corpus: {min_instances: 60}\nevaluation: {held_in: 60}",
        r"evaluation\.held_in: 60 leaves nothing to train on for a pool task with only corpus\.min_instances: 60",
    ),
    "a metric twice": (
        "evaluation: {metrics: [rouge-l, rouge-l]}",
        r"evaluation\.metrics: lists a value twice: \['rouge-l', 'rouge-l'\]",
    ),
    "a metric of a suite twice": (
        "evaluation: {suites: [{name: a, metrics: [rouge-l, rouge-l]}]}",
        r"evaluation\.suites\.0\.metrics: lists a value twice",
    ),
    "key twice": ("training:\n  epochs: 1\n  epochs: 2\n", r"s\.yaml, line 3, column 3: .*'epochs' is given twice"),
    "key twice on top": ("name: a\nname: b\n", r"line 2, column 1: .*'name' is given twice"),
    "a list as key": ("? [a, b]\n: 1\n", r"line 1, column 3: .*a key must be a string"),
    "a number as key": ("training: {1: 2}", r"line 1, column 12: .*a key must be a string; write it with quotes"),
    "a loop": ("name: &x [*x]", "nested too deeply"),
    "python": ("name: !!python/name:os.system", r"line 1, column 7: name: has a tag"),
    "two documents": ("name: a\n---\nname: b\n", "line 2, column 1: not valid YAML .*another document"),
    "cut off": ("name: [a,", r"s\.yaml, line 1, column 10: not valid YAML"),
    "a list": ("- name: a", "a sweep file is a mapping .*found list"),
    "nothing": ("", "found nothing"),
    "60 to the power of 5 grid points": (
        "grid: {" + ", ".join(f"{field}: {list(range(1, 61))}" for field in FIVE_FIELDS) + "}",
        r"s\.yaml, line 1: grid: 60 x 60 x 60 x 60 x 60 values are 777,600,000 points, more than 1,000; list fewer",
    ),
    "2,000 strategies at 2,000 sizes": (
        f"selection: {{sizes: {list(range(1, 2001))}, strategies: {[f'graph-cut(lambda={n})' for n in range(2000)]}}}",
        r"line 1: selection: 2,000 strategies x 2,000 sizes x 3 seeds are 12,000,000 subsets, more than 20,000",
    ),
    "more trials than can be listed": (
        f"grid: {{encoding.positive: {list(range(300))}}}\nselection: {{sizes: {list(range(1, 101))}, seeds: [0]}}",
        r"grid and selection: 300 grid points of 503 trials are 150,900 trials, more than 20,000",
    ),
    "utf-16": ("name: a".encode("utf-16"), "not UTF-8 text"),
}


@pytest.mark.parametrize(("text", "complaint"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_a_helpful_message(load, text, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(text)
    assert "s.yaml" in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_all_mistakes_are_named_at_once_one_a_line(load):
    with pytest.raises(ConfigError) as caught:
        load("training: {epochs: 0, schedule: linea}\nselection: {seeds: [-1]}\n")
    fields = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert sorted(fields) == ["selection.seeds.0", "training.epochs", "training.schedule"]


def test_a_missing_sweep_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such sweep file"):
        load_sweep(tmp_path / "s.yaml")
    with pytest.raises(ConfigError, match="a folder, not a sweep file"):
        load_sweep(tmp_path)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "10e-4", "1.0e-3", "0.001", "0.1e-02"])
def test_floats_are_floats_however_they_are_written(load, text):
    assert load(f"training: {{learning_rate: {text}}}").training.learning_rate == 0.001
    assert load("name: s", f"training.learning_rate={text}").training.learning_rate == 0.001


# As they are written, and what is to be written instead.
SURPRISES = {
    **{"010": "write 10,", "-012": "write -12,", "00": "write 0,", "08": "write 8,", "0o10": "decimal digits"},
    **{"0x1F": "decimal digits", "0b11": "decimal digits", "1_000": "write 1000,", "1__0": "write 10,"},
    **{
        "1:30:00": "one number in the field's unit",
        "1:30.5": "one number",
        "0:75": "one number",
        "-1:30": "one number",
    },
    **{".inf": "a finite number", "-.INF": "a finite number", ".nan": "a finite number", "NaN": "a finite number"},
    **{"Infinity": "a finite number", "1e400": "a smaller one", "-1.5e999": "a smaller one", "1e-999": "write 0 or"},
    **{"+5": "write 5,", "+1e-3": "write 1e-3,", ".5": "write 0.5,", "-.5": "write -0.5,", "5.": "write 5.0,"},
    **{"1.e-3": "write 1.0e-3,", "1_0.5": "write 10.5,", "01.5": "write 1.5,", "1_0e3": "write 10e3,"},
    **{"2001-01-01": "is a date", "2001-1-1 10:00:00": "is a date", "2001-12-14t21:59:43.10-05:00": "is a date"},
    **{"yes": "write true,", "NO": "write false,", "On": "write true,", "off": "write false,", "True": "write true,"},
    **{"FALSE": "write false,", "~": "write null,", "Null": "write null,", "": "no value; write one"},
    **{"=": "a meaning of its own", "<<": "a meaning of its own", "!!int 5": "has a tag", "! 5": "has a tag"},
    **{"!!str 010": "has a tag", "!!set [a]": "has a tag", "!!binary YQ==": "has a tag", "!x [5]": "has a tag"},
}


PLACES = {
    "a number": (
        "name: s\nresources:\n  trial_minutes: {}\n",
        r"s\.yaml, line 3, column 18: resources\.trial_minutes: ",
    ),
    "a text": ("name: {}\n", r"s\.yaml, line 1, column 7: name: "),
    "in a list": ("selection:\n  sizes:\n  - 10\n  - {}\n", r"s\.yaml, line 4, column 5: selection\.sizes\.1: "),
    "in brackets": ("selection: {{strategies: ['a(b={})']}}\n", r"s\.yaml, line 1: selection\.strategies\.0: 'a\(b="),
}


@pytest.mark.parametrize("value", SURPRISES)
@pytest.mark.parametrize(("text", "place"), PLACES.values(), ids=PLACES)
def test_a_value_that_yaml_readers_differ_on_is_refused_with_its_place_and_a_remedy(load, value, text, place):
    # An empty value has no column.
    with pytest.raises(ConfigError, match=place if value else "no value") as caught:
        load(text.format(value))
    assert not value or SURPRISES[value] in str(caught.value)


def test_a_merge_key_is_refused(load):
    with pytest.raises(ConfigError, match=r"line 2, column 12: training: << has a meaning of its own .*write every"):
        load("encoding: &x {positive: 1}\ntraining: {<<: *x}\n")


@pytest.mark.parametrize("value", [value for value in SURPRISES if not value.startswith("!")])
def test_a_text_stays_a_text_between_quotes_and_when_it_is_written(value):
    assert read_yaml(f"a: '{value}'")[0] == {"a": value}
    assert read_yaml(f'a: "{value}"')[0] == {"a": value}
    assert read_yaml(write_yaml({"a": value, value or "b": [value]}))[0] == {"a": value, value or "b": [value]}


def test_overrides_are_read_as_yaml_and_the_last_one_counts(load):
    sweep = load(
        "training: {epochs: 1}",
        *("training.epochs=2", "training.epochs=3", "selection.sizes=[5, 10, all]", "model.tokenizer=null"),
        *("model.name=a=b", "evaluation.instances_per_task=7", "corpus.skip_bad=true"),
    )
    assert sweep.training.epochs == 3
    assert sweep.selection.sizes == (5, 10, "all")
    assert (sweep.model.tokenizer, sweep.model.name) == (None, "a=b")
    assert sweep.evaluation.instances_per_task == 7
    assert sweep.corpus.skip_bad is True


def test_grid_keys_can_be_set_whole(load):
    sweep = load("name: s", "grid.training.learning_rate=[1e-3, 1e-4]", "grid.encoding.positive=[0, 2]")
    assert sweep.grid == {"training.learning_rate": (1e-3, 1e-4), "encoding.positive": (0, 2)}


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("training.epochs", "--set 'training.epochs': not of the form"),
        ("=3", "not of the form"),
        ("training.epochs=[", r"--set training\.epochs=\[: '\[' is not a value"),
        ("training.epochs=", r"--set training\.epochs=: no value; write one, or null"),
        ("selection.sizes=[010]", r"--set selection\.sizes=\[010\]: '\[010\]' is not a value \(010 .* write 10, or"),
        ("training.epochs=x", r"--set training\.epochs=x: training\.epochs: 'x' is wrong"),
        (
            "training.epocs=1",
            r"--set training\.epocs=1: training\.epocs: unknown key; did you mean 'training\.epochs'\?",
        ),
        ("name.x=3", "--set name.x=3: name is a value, not a section"),
        ("selection.sizes={a: 1, a: 2}", "'a' is given twice"),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(load, override, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load("name: s", override)


def test_a_grid_is_every_combination_the_last_field_fastest(load):
    text = "grid:\n  training.learning_rate: [1e-3, 1e-4]\n  encoding.positive: [0, 2, 4]\n"
    points = expand_grid(load(text))
    assert [point.label for point in points] == [
        f"training.learning_rate={rate}, encoding.positive={positive}"
        for rate in (1e-3, 1e-4)
        for positive in (0, 2, 4)
    ]
    assert [(p.sweep.training.learning_rate, p.sweep.encoding.format_settings["positive"]) for p in points] == [
        tuple(value for _, value in point.values) for point in points
    ]
    assert all(point.sweep.grid == {} for point in points)


def test_no_grid_is_one_point_and_a_deep_field_can_be_swept(load):
    sweep = load("model: {init: random}")
    (point,) = expand_grid(sweep)
    assert (point.sweep, point.label) == (sweep, "")
    points = expand_grid(load("model: {init: random}\ngrid: {model.config.d_model: [64, 32]}"))
    assert [point.sweep.model.config["d_model"] for point in points] == [64, 32]


@pytest.mark.parametrize(
    ("grid", "complaint"),
    [
        (
            "training.lerning_rate: [1]",
            r"grid\.training\.lerning_rate: unknown key; did you mean 'training\.learning_rate'\?",
        ),
        ("trainng.epochs: [1]", r"grid\.trainng: unknown key; did you mean 'training'\?"),
        ("training.epochs: [1, 0]", r"grid\.training\.epochs: 0 is wrong"),
        ("training.epochs: []", r"grid\.training\.epochs: has no values"),
        ("training.epochs: [1, 2, 1]", r"grid\.training\.epochs: lists a value twice: \[1, 2, 1\]"),
        ("training.epochs.x: [1]", r"grid: training\.epochs is a value, not a section"),
        ("storage: [a, b]", r"grid\.storage: cannot be swept"),
        (
            "mixture: [equal]",
            r"grid\.mixture: cannot be swept\. Name one field of corpus, leakage, embedding, model, encoding, mixture, "
            "training or evaluation, such as",
        ),
        ("selection.sizes: [[1], [2]]", "strategies, sizes and seeds are lists in selection"),
        ("resources.workers: [1, 2]", "cannot be swept"),
        ("training.batch_size: [16, 15]", r"grid\.training\.batch_size: 15 does not divide"),
    ],
)
def test_a_wrong_grid_is_refused(load, grid, complaint):
    with pytest.raises(ConfigError, match=complaint):
        expand_grid(load(f"resources: {{workers: 2}}\ngrid: {{{grid}}}"))


def test_the_effective_batch_is_met_exactly(load):
    text = "training: {batch_size: 48, micro_batch_size: 4}\nresources: {workers: 3}"
    assert accumulation_steps(load(text)) == 4
    assert accumulation_steps(load("training: {batch_size: 48}\nresources: {workers: 3}")) == 1


def test_every_shipped_sweep_expands(request):
    sweeps = sorted((request.config.rootpath / "sweeps").glob("*.yaml"))
    assert sweeps
    for path in sweeps:
        sweep = load_sweep(path)
        assert sweep.name == path.stem
        assert expand_grid(sweep)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    change=st.fixed_dictionaries(
        {
            "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(
                lambda name: name not in {"trials", "cache"}
            ),
            "training": st.fixed_dictionaries(
                {"learning_rate": st.floats(1e-300, 1e300), "epochs": st.integers(1, 10**9)}
            ),
            "selection": st.fixed_dictionaries(
                {"sizes": st.lists(st.integers(1, 10**6) | st.just("all"), min_size=1, unique=True)}
            ),
            "model": st.fixed_dictionaries({"name": st.text(min_size=1).map(lambda text: "no/such " + text)}),
            "grid": st.dictionaries(
                st.sampled_from(["encoding.positive", "training.learning_rate", "model.name"]),
                # No field takes an infinity or NaN, in a grid or elsewhere.
                st.lists(
                    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.none(),
                    min_size=1,
                    max_size=3,
                ),
            ),
        }
    )
)
def test_a_dumped_sweep_loads_as_the_same_sweep(load, change):
    sweep = Sweep.model_validate(change | {"storage": "/runs"})
    assert load(dump_sweep(sweep)) == sweep
    assert set(yaml.safe_load(dump_sweep(sweep))) == set(Sweep.model_fields)


def test_a_text_with_any_control_or_line_character_is_read_as_it_was_written():
    codes = [*range(0x100), *range(0x2000, 0x2030), 0xFEFF, 0xFFFD, 0x1F600]
    texts = [text.format(chr(code)) for code in codes for text in ("{}", "a{}", "{}a", "a {} b", "a\n{}")]
    assert read_yaml(write_yaml(texts))[0] == texts


def test_the_address_of_an_object_store_with_one_slash_is_no_folder(tmp_path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\n")
    for read in (lambda: load_sweep(path, ["storage=s3:/bucket/runs"]), lambda: as_path("s3:/bucket/runs")):
        with pytest.raises(ConfigError, match=r"s3:/bucket/runs: .* give a folder, or one of s3://BUCKET/KEY"):
            read()
    assert load_sweep(path, ["storage=./s3:/bucket/runs"]).storage.endswith("/s3:/bucket/runs")
