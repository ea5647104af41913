"""Which files of a model's folder are the model."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

from simtune.config import ModelSettings
from simtune.errors import ModelError
from simtune.prompting.tokenizer import TextTokenizer, check_tokenizer, load_tokenizer, train_tokenizer
from simtune.training.model import _folder_here, build_model, resolve_model
from simtune.trial.failures import cause_of


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_tokenizer([], 60)


@pytest.fixture(scope="module")
def saved(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "t5"
    torch.manual_seed(0)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(**sizes, vocab_size=64, decoder_start_token_id=0)).save_pretrained(folder)
    tokenizer.tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def identity(folder: Path, tokenizer: TextTokenizer) -> str:
    return resolve_model(ModelSettings(name=str(folder)), tokenizer).fingerprint


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_every_setting_counts(saved: Path, tokenizer: TextTokenizer, tmp_path: Path, file: str) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    (copy / file).write_text(json.dumps(json.loads((saved / file).read_text()) | {"repetition_penalty": 1.5}))
    assert identity(copy, tokenizer) != identity(saved, tokenizer)


def test_an_unknown_file_counts_and_files_outside_the_model_do_not(
    saved: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    for name in ("README.md", "pytorch_model.bin", ".gitattributes", "tokenizer_config.json", "spiece.model"):
        (copy / name).write_text("{}")
    (copy / "checkpoint-5").mkdir()
    shutil.copy(saved / "model.safetensors", copy / "checkpoint-5")
    assert identity(copy, tokenizer) == identity(saved, tokenizer)
    (copy / "quantisation.json").write_text("{}")
    assert identity(copy, tokenizer) != identity(saved, tokenizer)


@pytest.mark.parametrize("name", ["vocab-1.safetensors", ".h.safetensors", "README-1.safetensors", "b.safetensors"])
@pytest.mark.parametrize("by", ["index", "setting"])
def test_weights_count_whatever_their_name(
    saved: Path, tokenizer: TextTokenizer, tmp_path: Path, name: str, by: str
) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    arrays = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    save_file(arrays, copy / name, {"format": "pt"})
    if by == "index":
        index = {"metadata": {}, "weight_map": dict.fromkeys(arrays, name)}
        (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"transformers_weights": name}))
    # Otherwise a hidden name is not weights at all.
    save_file({"unused": torch.zeros(1)}, copy / "other.safetensors", {"format": "pt"})
    before = identity(copy, tokenizer)
    resolved = resolve_model(ModelSettings(name=str(copy)), tokenizer)
    weight = build_model(resolved, 0, None).shared.weight
    torch.testing.assert_close(weight, arrays["shared.weight"])
    save_file({key: array + 1 for key, array in arrays.items()}, copy / name, {"format": "pt"})
    assert identity(copy, tokenizer) != before


def test_weights_behind_a_link_are_read_whatever_the_name_of_its_target(
    saved: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    store = tmp_path / ("e" * 64)
    (copy / "model.safetensors").rename(store)
    (copy / "model.safetensors").symlink_to(store)
    before = identity(copy, tokenizer)
    assert before == identity(saved, tokenizer)
    save_file({key: array + 1 for key, array in load_file(store).items()}, store, {"format": "pt"})
    assert identity(copy, tokenizer) != before


def test_a_machine_without_the_drivers_folder_or_with_other_files_is_named(
    saved: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    resolved = resolve_model(ModelSettings(name=str(folder)), tokenizer)
    assert build_model(resolved, 0, None).config.d_model == 8

    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | {"x": 1}))
    _folder_here.cache_clear()
    with pytest.raises(ModelError, match=rf"on host {socket.gethostname()} differs from the driver's, .*config\.json"):
        build_model(resolved, 0, None)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match=rf"there is no such folder on host {socket.gethostname()}") as caught:
        build_model(resolved, 0, None)
    # On another host they may be the driver's.
    assert cause_of(caught.value) == "infrastructure"


def test_weights_with_more_layers_than_the_config_are_refused(
    saved: Path, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    arrays = load_file(copy / "model.safetensors")
    layer = {name: array for name, array in arrays.items() if "encoder.block.0" in name}
    added = {name.replace("block.0.", "block.1."): array.clone() for name, array in layer.items()}
    save_file(arrays | added, copy / "model.safetensors", metadata={"format": "pt"})
    said = r"have a layer encoder\.block\.1, and by its config\.json the model has 1 layer there"
    with pytest.raises(ModelError, match=said):
        build_model(resolve_model(ModelSettings(name=str(copy)), tokenizer), 0, None)


@pytest.mark.parametrize("name", ["T5Tokenizer", "BertTokenizer", "GPT2Tokenizer"])
def test_a_tokenizer_without_its_vocabulary_is_refused_before_any_task_is_read(tmp_path: Path, name: str) -> None:
    tokens = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **tokens}))
    model = ModelSettings(tokenizer=str(tmp_path), init="random")
    for reads in (check_tokenizer, lambda model: load_tokenizer(model, ())):
        with pytest.raises(ModelError, match="has no pieces, so that every word would be unknown"):
            reads(model)


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "1.0"}'])
def test_a_tokenizer_that_cannot_be_read_is_refused_before_any_task_is_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="no tokenizer could be loaded"):
        check_tokenizer(ModelSettings(tokenizer=str(tmp_path), init="random"))
