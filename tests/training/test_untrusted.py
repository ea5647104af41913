"""Folders crafted to run code when they are loaded: none does, and each is refused by name."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simtune.config import ModelSettings
from simtune.corpus.demo import demo_tasks
from simtune.corpus.natural_instructions import parse_task_bytes
from simtune.embedding.encoder import Encoder, resolve_encoder
from simtune.errors import ModelError
from simtune.prompting.tokenizer import TextTokenizer, load_tokenizer, train_tokenizer
from simtune.training.model import build_model, resolve_model


class _Malice:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    raw = list(demo_tasks().items())[:6]
    return train_tokenizer([parse_task_bytes(name, json.dumps(task).encode(), name).task for name, task in raw], 400)


@pytest.fixture(scope="module")
def sound(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A T5 and a sentence encoder with a dense layer that load as they are."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast, T5Config, T5ForConditionalGeneration

    root = tmp_path_factory.mktemp("sound")
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 512}
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).save_pretrained(root / "model")
    tokenizer.tokenizer.save(str(root / "model/tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (root / "model/tokenizer_config.json").write_text(json.dumps(described))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "add", "two"]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(root / "raw")
    BertTokenizerFast(vocab={piece: number for number, piece in enumerate(pieces)}).save_pretrained(root / "raw")
    modules = [Transformer(str(root / "raw")), Pooling(16), Dense(16, 8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(root / "encoder"))
    return {"model": root / "model", "encoder": root / "encoder"}


def pickle_into(path: Path, mark: Path, zipped: bool = False) -> None:
    import torch

    if zipped:
        torch.save({"shared.weight": _Malice(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"shared.weight": _Malice(mark)}))


def into_json(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_bytes()) if path.exists() else {}), **more}))


def code(folder: Path, mark: Path) -> None:
    body = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: pass\n"
    (folder / "own.py").write_text(body)


def pickled_alone(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").unlink()
    pickle_into(folder / "pytorch_model.bin", mark)


def zipped_alone(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").unlink()
    pickle_into(folder / "pytorch_model.bin", mark, zipped=True)


def behind_a_decoy(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    pickle_into(folder / "pytorch_model.bin", mark)


def named_by_an_index(folder: Path, mark: Path) -> None:
    behind_a_decoy(folder, mark)
    into_json(folder / "model.safetensors.index.json", weight_map={"shared.weight": "pytorch_model.bin"}, metadata={})


def named_by_the_settings(folder: Path, mark: Path) -> None:
    pickle_into(folder / "evil.bin", mark)
    into_json(folder / "config.json", transformers_weights="evil.bin")


def in_a_folder_named_by_the_settings(folder: Path, mark: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "model.safetensors").rename(folder / "sub/model.safetensors")
    into_json(folder / "config.json", transformers_weights="sub/model.safetensors")


def settings_in_another_file(folder: Path, mark: Path) -> None:
    into_json(folder / "config.json", configuration_files=["config.4.0.0.json"])


def auto_map(folder: Path, mark: Path) -> None:
    code(folder, mark)
    classes = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoModelForSeq2SeqLM": "own.Own"}
    into_json(folder / "config.json", auto_map=classes)


def auto_map_of_the_tokenizer(folder: Path, mark: Path) -> None:
    code(folder, mark)
    into_json(
        folder / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]}
    )


def kernels_of_the_hub(folder: Path, mark: Path) -> None:
    into_json(folder / "config.json", attn_implementation="someone/kernels")


def adapter(folder: Path, mark: Path) -> None:
    into_json(folder / "adapter_config.json", base_model_name_or_path="someone/else", peft_type="LORA")


IN_BOTH = [settings_in_another_file, pickled_alone, zipped_alone, behind_a_decoy, named_by_an_index,
           named_by_the_settings, in_a_folder_named_by_the_settings, auto_map, auto_map_of_the_tokenizer,
           kernels_of_the_hub, adapter]  # fmt: skip


def module(folder: Path, number: int, **more: Any) -> None:
    modules = json.loads((folder / "modules.json").read_bytes())
    modules[number] |= more
    (folder / "modules.json").write_text(json.dumps(modules))


def module_of_the_folder(folder: Path, mark: Path) -> None:
    code(folder, mark)
    module(folder, 1, type="own.Own")


def module_of_python(folder: Path, mark: Path) -> None:
    module(folder, 1, type="os.system", path=f"touch {mark}")


def module_of_the_library_that_is_none(folder: Path, mark: Path) -> None:
    module(folder, 1, type="sentence_transformers.util.misc.import_from_string")


def module_elsewhere(folder: Path, mark: Path) -> None:
    module(folder, 1, path="../elsewhere")


def pickled_layer(folder: Path, mark: Path) -> None:
    (folder / "2_Dense/model.safetensors").unlink()
    pickle_into(folder / "2_Dense/pytorch_model.bin", mark)


def activation_of_its_own(folder: Path, mark: Path) -> None:
    into_json(folder / "2_Dense/config.json", activation_function="torch.hub.load")


def switches_that_unpickle(folder: Path, mark: Path) -> None:
    behind_a_decoy(folder, mark)
    into_json(folder / "sentence_bert_config.json", model_args={"weights_only": False, "use_safetensors": False})


def tokenizer_elsewhere(folder: Path, mark: Path) -> None:
    into_json(folder / "sentence_bert_config.json", tokenizer_name_or_path=str(folder.parent))


def file_elsewhere(folder: Path, mark: Path) -> None:
    path = str(folder.parent / "tokenizer.json")
    into_json(folder / "sentence_bert_config.json", processor_kwargs={"tokenizer_file": path})


def tokenizer_elsewhere_by_another_name(folder: Path, mark: Path) -> None:
    (folder / "sentence_bert_config.json").write_text("{}")
    into_json(folder / "sentence_roberta_config.json", tokenizer_name_or_path=str(folder.parent))


def module_that_leads_out(folder: Path, mark: Path) -> None:
    (folder / "9_Dense").symlink_to("..")
    module(folder, 2, path="9_Dense")


def module_of_an_endless_name(folder: Path, mark: Path) -> None:
    module(folder, 1, path="x" * 5000)


IN_ENCODERS = [tokenizer_elsewhere, tokenizer_elsewhere_by_another_name, module_that_leads_out, file_elsewhere,
               module_of_an_endless_name, module_of_the_folder, module_of_python,
               module_of_the_library_that_is_none, module_elsewhere, pickled_layer, activation_of_its_own,
               switches_that_unpickle]  # fmt: skip


def test_the_sound_folders_load(sound, tokenizer):
    settings = ModelSettings(name=str(sound["model"]))
    build_model(resolve_model(settings, load_tokenizer(settings, ())), 0, None)
    assert Encoder(resolve_encoder(str(sound["encoder"])), device="cpu").encode(["add two"]).shape == (1, 8)


@pytest.mark.parametrize("craft", IN_BOTH, ids=lambda craft: craft.__name__)
def test_a_crafted_model_is_refused_and_runs_nothing(sound, tokenizer, tmp_path, craft):
    folder, mark = shutil.copytree(sound["model"], tmp_path / "model"), tmp_path / "executed"
    craft(folder, mark)
    settings = ModelSettings(name=str(folder))
    with pytest.raises(ModelError, match=r"^model\.name: ") as refusal:
        build_model(resolve_model(settings, load_tokenizer(settings, ())), 0, None)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "weights_only=False" not in str(refusal.value)
    assert not mark.exists()


@pytest.mark.parametrize("craft", [*IN_BOTH, *IN_ENCODERS], ids=lambda craft: craft.__name__)
def test_a_crafted_encoder_is_refused_and_runs_nothing(sound, tmp_path, craft):
    folder, mark = shutil.copytree(sound["encoder"], tmp_path / "encoder"), tmp_path / "executed"
    craft(folder, mark)
    with pytest.raises(ModelError, match=r"^embedding\.encoder: ") as refusal:
        Encoder(resolve_encoder(str(folder)), device="cpu").encode(["add two"])
    assert str(folder) in str(refusal.value)
    assert not mark.exists()


def test_the_crafted_pickle_is_a_real_one(tmp_path):
    mark = tmp_path / "executed"
    pickle_into(tmp_path / "pytorch_model.bin", mark)
    pickle.loads((tmp_path / "pytorch_model.bin").read_bytes())
    assert mark.exists()
