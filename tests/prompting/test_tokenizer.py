from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simtune.config import ModelSettings
from simtune.corpus.demo import demo_tasks
from simtune.corpus.natural_instructions import parse_task_bytes
from simtune.corpus.task import Task
from simtune.errors import ModelError
from simtune.prompting.tokenizer import (
    UNKNOWN,
    TextTokenizer,
    check_tokenizer,
    light_tokenizer,
    load_tokenizer,
    train_tokenizer,
)
from simtune.training.families.registry import tokenizers_split_at_spaces

VOCAB_SIZE = 400


def pool_of_demo() -> list[Task]:
    raw = list(demo_tasks().items())[:8]
    return [parse_task_bytes(name, json.dumps(task).encode(), name).task for name, task in raw]


@pytest.fixture(scope="module")
def pool() -> list[Task]:
    return pool_of_demo()


@pytest.fixture(scope="module")
def trained(pool) -> TextTokenizer:
    return train_tokenizer(pool, VOCAB_SIZE)


def texts_of(pool) -> list[str]:
    texts = [task.definition for task in pool]
    texts += [shown.input + "\n" + shown.output for task in pool for shown in (*task.positive, *task.negative)]
    return texts + [
        text for task in pool for instance in task.instances for text in (instance.input, *instance.outputs)
    ]


def test_training_twice_gives_the_same_tokenizer_in_any_process(pool, trained):
    assert train_tokenizer(pool, VOCAB_SIZE).fingerprint == trained.fingerprint
    assert train_tokenizer(pool[:-1], VOCAB_SIZE).fingerprint != trained.fingerprint
    script = (
        "from test_tokenizer import VOCAB_SIZE, pool_of_demo, train_tokenizer\n"
        "print(train_tokenizer(pool_of_demo(), VOCAB_SIZE).fingerprint)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    for seed, threads in (("1", "1"), ("2", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PYTHONPATH": path}
        printed = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        assert printed.stdout.strip() == trained.fingerprint


def test_pool_text_comes_back_and_holds_no_unknown_piece(pool, trained):
    unknown = trained.tokenizer.token_to_id(UNKNOWN)
    texts = texts_of(pool)
    assert len(texts) > 300
    for text, ids in zip(texts, trained.encode_batch(texts), strict=True):
        assert unknown not in ids
        assert ids[-1] == trained.eos_id
        assert trained.decode(ids).split() == text.split()
    assert trained.count_tokens(texts) == [len(ids) for ids in trained.encode_batch(texts)]
    assert trained.vocab_size == VOCAB_SIZE
    assert trained.pad_id != trained.eos_id


def test_what_the_pool_never_showed_is_unknown_and_nothing_is_cut(trained):
    ids = trained.encode_batch(["質問", "", "the " * 3000])
    assert ids[0].count(trained.tokenizer.token_to_id(UNKNOWN)) >= 1
    assert ids[1] == [trained.eos_id]
    assert len(ids[2]) >= 3001


def test_a_tokenizer_is_a_value(trained):
    copy = pickle.loads(pickle.dumps(trained))
    text = "Definition: Say it.\n\nNow complete the following example -\nInput: a, b. Output: "
    assert copy.encode_batch([text]) == trained.encode_batch([text])
    assert copy.fingerprint == trained.fingerprint
    assert (copy.pad_id, copy.eos_id, copy.label) == (trained.pad_id, trained.eos_id, trained.label)


def test_a_trained_tokenizer_saved_as_a_folder_loads_as_the_same(trained, tmp_path):
    trained.tokenizer.save(str(tmp_path / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
    for tokenizer in (None, str(tmp_path)):
        settings = ModelSettings(name=str(tmp_path), tokenizer=tokenizer)
        loaded, light = load_tokenizer(settings, ()), light_tokenizer(settings, tokenizers_split_at_spaces())
        assert light is not None
        assert loaded.fingerprint == light.fingerprint == trained.fingerprint
        assert (loaded.pad_id, loaded.eos_id) == (light.pad_id, light.eos_id) == (trained.pad_id, trained.eos_id)


def test_without_an_end_or_padding_token_it_is_refused(trained, tmp_path):
    trained.tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(ModelError, match=r"model\.tokenizer: .* lacks an end-of-sequence or padding token"):
        load_tokenizer(ModelSettings(tokenizer=str(tmp_path)), ())


def real_texts(shared_data: Path) -> list[str]:
    texts = ["", " \n\t ", "Definition: x.\n\n Positive Example 1 -\nInput: 質問 ﷺ\r\n Output: ½ <extra_id_0> </s>."]
    for path in sorted((shared_data / "sup-natinst" / "tasks").glob("*.json"))[::50]:
        task = json.loads(path.read_bytes())
        texts += [*task["Definition"], *(instance["input"] for instance in task["Instances"][:20])]
    return texts


def test_the_light_tokenizer_counts_as_the_librarys_own(shared_data):
    settings = ModelSettings(name=str(shared_data / "t5-tokenizer"))
    texts = real_texts(shared_data)
    assert len(texts) > 300
    light, loaded = light_tokenizer(settings, tokenizers_split_at_spaces()), load_tokenizer(settings, ())
    assert light is not None
    assert light.encode_batch(texts) == loaded.encode_batch(texts)
    assert light.count_tokens(texts) == loaded.count_tokens(texts)
    assert (light.pad_id, light.eos_id, light.vocab_size) == (loaded.pad_id, loaded.eos_id, loaded.vocab_size)
    copy = pickle.loads(pickle.dumps(loaded))
    assert copy.encode_batch(texts[:20]) == loaded.encode_batch(texts[:20])
    # Known ids of the published vocabulary.
    assert loaded.encode_batch(["Hello world"]) == [[8774, 296, 1]]


def test_a_repository_with_the_sentencepiece_file_alone_reads_the_same(shared_data, tmp_path):
    # google/t5-*-lm-adapt have no tokenizer.json.
    pytest.importorskip("sentencepiece", reason="the sentencepiece package is not installed")
    published = shared_data / "t5-tokenizer"
    for name in ("spiece.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(published / name, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    texts = real_texts(shared_data)
    assert light_tokenizer(ModelSettings(name=str(tmp_path)), ()) is None
    alone = load_tokenizer(ModelSettings(name=str(tmp_path)), ())
    whole = load_tokenizer(ModelSettings(name=str(published)), ())
    assert alone.encode_batch(texts) == whole.encode_batch(texts)
    assert (alone.pad_id, alone.eos_id, alone.vocab_size) == (whole.pad_id, whole.eos_id, whole.vocab_size)


def test_a_tokenizer_of_bytes_is_refused_as_such(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5", "tokenizer_class": "ByT5Tokenizer"}')
    for settings in (ModelSettings(name=str(tmp_path)), ModelSettings(tokenizer=str(tmp_path))):
        with pytest.raises(ModelError, match=r"\(ByT5Tokenizer\) reads bytes, not pieces of words"):
            load_tokenizer(settings, ())
        with pytest.raises(ModelError, match=r"\(ByT5Tokenizer\) reads bytes, not pieces of words"):
            check_tokenizer(settings)


def test_another_padding_end_or_casing_is_another_tokenizer(trained, tmp_path):
    from transformers import BertTokenizerFast

    trained.tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = set()
    for pad, eos in (("<pad>", "</s>"), ("<unk>", "</s>"), ("<pad>", "<unk>")):
        described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "pad_token": pad}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
        found.add(load_tokenizer(ModelSettings(tokenizer=str(tmp_path)), ()).fingerprint)
    assert len(found) == 3
    pieces = {piece: number for number, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "a"])}
    for lower in (True, False):
        folder = tmp_path / f"lower-{lower}"
        BertTokenizerFast(vocab=pieces, do_lower_case=lower, eos_token="[SEP]").save_pretrained(folder)  # noqa: S106
        found.add(load_tokenizer(ModelSettings(tokenizer=str(folder)), ()).fingerprint)
    assert len(found) == 5
