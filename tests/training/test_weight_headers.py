"""What is missing in a model's files is found in their headers, as the library would report it after loading them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from simtune.config import ModelSettings
from simtune.errors import ModelError
from simtune.loaded_weights import LoadedModel
from simtune.prompting.tokenizer import train_tokenizer
from simtune.training.model import build_model, check_model, resolve_model
from simtune.training.weight_headers import _compared, _on_meta, _shapes_in_files

QUERY = "encoder.block.1.layer.0.SelfAttention.q.weight"
Change = Callable[[Path], None]
Arrays = dict[str, torch.Tensor]


def arrays(change: Callable[[Arrays], Arrays]) -> Change:
    def changed(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})

    return changed


def config(**changes: Any) -> Change:
    def changed(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return changed


def without(*names: str) -> Change:
    return arrays(lambda found: {name: array for name, array in found.items() if name not in names})


def in_two_files(folder: Path) -> None:
    found = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {"a.safetensors": list(found)[::2], "b.safetensors": list(found)[1::2]}
    for name, keys in parts.items():
        save_file({key: found[key] for key in keys}, folder / name, {"format": "pt"})
    listed = {key: name for name, keys in parts.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))


def without_second_file(folder: Path) -> None:
    in_two_files(folder)
    (folder / "b.safetensors").unlink()


def one_more_layer(found: Arrays) -> Arrays:
    return found | {
        key.replace("block.1", "block.2"): found[key].clone() for key in found if key.startswith("encoder.block.1")
    }


def nothing(folder: Path) -> None:
    """The folder as the library saved it."""


SOUND = {
    "as saved": nothing,
    "in two files": in_two_files,
    "not tied": config(tie_word_embeddings=False),
    "other dropout": config(dropout_rate=0.3),
    "with another part": arrays(lambda found: found | {"classifier.weight": torch.zeros(2)}),
    "under another name": arrays(
        lambda found: {key.replace("shared", "encoder.embed_tokens"): found[key] for key in found}
    ),
}
UNSOUND: dict[str, tuple[Change, str]] = {
    "an array": (without(QUERY), "lack 1 array of the model, such as encoder"),
    "embeddings": (without("shared.weight"), "lack 1 array of the model, such as shared"),
    "shape": (
        arrays(lambda found: found | {QUERY: found[QUERY][:, :-1].contiguous()}),
        r"q\.weight in the shape \[8, 7\]",
    ),
    "vocabulary": (config(vocab_size=128), r"shared\.weight in the shape \[64, 8\].*\[128, 8\]"),
    "more": (arrays(one_more_layer), r"have a layer encoder\.block\.2"),
    "fewer": (config(num_layers=3), r"lack 8 arrays .*encoder\.block\.2"),
    "gated": (config(feed_forward_proj="gated-gelu", is_gated_act=True, dense_act_fn="gelu_new"), "lack .* arrays"),
    "names": (arrays(lambda found: {f"x.{key}": found[key] for key in found}), "lack .* arrays"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "t5"
    torch.manual_seed(0)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_heads": 2, "vocab_size": 64}
    T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).save_pretrained(folder)
    train_tokenizer([], 60).tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def changed(saved: Path, tmp_path: Path, change: Change) -> Path:
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    change(folder)
    return folder


@pytest.mark.parametrize("name", [*SOUND, *UNSOUND])
def test_headers_tell_what_the_library_reports_after_loading(saved: Path, tmp_path: Path, name: str) -> None:
    folder = changed(saved, tmp_path, SOUND[name] if name in SOUND else UNSOUND[name][0])
    settings = json.loads((folder / "config.json").read_text())
    model = _on_meta(folder, "model.name")
    found = _compared(model, _shapes_in_files(folder, settings, "model.name") or {})
    loaded = LoadedModel.from_report(
        *AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    )
    # The library lists each name of an array that is used in several places.
    tied = {"lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    assert found.missing - tied == loaded.missing - tied
    assert (found.unexpected, found.other_shape) == (loaded.unexpected, loaded.other_shape)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_folder_is_accepted(saved: Path, tmp_path: Path, name: str) -> None:
    check_model(ModelSettings(name=str(changed(saved, tmp_path, SOUND[name]))))


@pytest.mark.parametrize("name", UNSOUND)
def test_a_folder_in_which_something_is_missing_is_refused_before_any_work(
    saved: Path, tmp_path: Path, name: str
) -> None:
    folder = changed(saved, tmp_path, UNSOUND[name][0])
    with pytest.raises(ModelError, match=rf"^model\.name: .*{UNSOUND[name][1]}.* config\.json that belongs"):
        check_model(ModelSettings(name=str(folder)))


def test_a_file_that_the_index_lists_must_be_there(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, tmp_path, without_second_file)
    with pytest.raises(ModelError, match=r"has no b\.safetensors, which model\.safetensors\.index\.json lists"):
        check_model(ModelSettings(name=str(folder)))


def test_weights_that_are_not_finite_and_a_part_of_a_vocabulary_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, tmp_path, arrays(lambda found: found | {QUERY: found[QUERY] * torch.nan}))
    tokenizer = train_tokenizer([], 60)
    with pytest.raises(ModelError, match=r"numbers in encoder\.block\.1.*q\.weight that are not finite"):
        build_model(resolve_model(ModelSettings(name=str(folder)), tokenizer), 0, None)
    config(vocab_size=2 * tokenizer.vocab_size + 2)(folder)
    with pytest.raises(ModelError, match=r"pieces of the .* that the model has embeddings for"):
        resolve_model(ModelSettings(name=str(folder)), tokenizer)
