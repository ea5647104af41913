"""Small real encoders saved by the library: what in a folder decides a vector, and how much of a text is read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simtune.config import EmbeddingSettings
from simtune.corpus.task import Instance, Task
from simtune.embedding.embed import TaskEmbeddings, embed_tasks, encode_here
from simtune.embedding.encoder import NO_LIMIT, Encoder, check_encoder, check_loaded_encoder, resolve_encoder
from simtune.errors import ModelError
from simtune.loaded_weights import LoadedModel, refuse_more_layers
from simtune.wording import counted

WORDS = ["translate", "To", "french", "add", "two", "numbers", "a", "say", "whether"]
TEXT = "Translate to french"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transformer, pooling and a dense layer, as sentence-transformers saves them; reads 32 tokens."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=128, **sizes)
    BertModel(config).save_pretrained(root / "raw")
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizerFast(vocab=vocabulary, do_lower_case=False).save_pretrained(root / "raw")
    modules = [Transformer(str(root / "raw"), max_seq_length=32), Pooling(16), Dense(16, 8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(root / "encoder"))
    return root / "encoder"


def edit(file: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def other_dense(folder: Path) -> None:
    other_dense_in(folder / "2_Dense")


def other_dense_in(module: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = module / "model.safetensors"
    weights = load_file(path)
    save_file({name: -2 * array + 0.1 for name, array in weights.items()}, path, metadata={"format": "pt"})


def lower_case(folder: Path) -> None:
    edit("tokenizer_config.json", do_lower_case=True)(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = True
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def without_dense(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))


def pooled_by_first_token(folder: Path) -> None:
    edit("1_Pooling/config.json", pooling_mode="cls")(folder)


VARIANTS = {
    "dense weights": other_dense,
    "prompts": edit("config_sentence_transformers.json", prompts={"task": "say "}, default_prompt_name="task"),
    "length": edit("tokenizer_config.json", model_max_length=4),
    "casing": lower_case,
    "pooling": pooled_by_first_token,
    "no dense layer": without_dense,
    "activation": edit("2_Dense/config.json", activation_function="torch.nn.modules.linear.Identity"),
}


def embedded(folder: Path, cache: Path, text: str = TEXT) -> TaskEmbeddings:
    tasks = [Task("t", text, ("Title",), (), (), (Instance("1", "x", ("x",)),))]
    return embed_tasks(tasks, EmbeddingSettings(encoder=str(folder), fields=("definition",)), cache, encode_here)


def of_library(folder: Path, text: str = TEXT) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode([text], normalize_embeddings=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_changes_a_vector_is_another_encoder_and_is_not_answered_from_the_firsts_cache(
    built: Path, tmp_path: Path, variant: str
) -> None:
    first = embedded(built, tmp_path / "cache")
    other = tmp_path / "other"
    shutil.copytree(built, other)
    VARIANTS[variant](other)
    expected_ND = of_library(other)
    assert expected_ND.shape != first.embeddings_ND.shape or not np.allclose(
        expected_ND, first.embeddings_ND, atol=1e-3
    ), "this change does not change the vector"
    found = embedded(other, tmp_path / "cache")
    assert found.num_computed == 1
    np.testing.assert_allclose(found.embeddings_ND, expected_ND, atol=1e-6)
    # And back again, from the cache.
    again = embedded(built, tmp_path / "cache")
    assert again.num_computed == 0
    np.testing.assert_array_equal(again.embeddings_ND, first.embeddings_ND)


def test_what_cannot_change_a_vector_is_the_same_encoder(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    for name in ("README.md", ".gitattributes", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("nothing that is read")
    for name in (".cache/huggingface/download/config.json.metadata", "checkpoint-10/model.safetensors"):
        (copy / name).parent.mkdir(parents=True)
        (copy / name).write_text("nothing that is read")
    assert resolve_encoder(str(copy)).fingerprint == resolve_encoder(str(built)).fingerprint
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in built.iterdir():
        (linked / path.name).symlink_to(path)
    assert resolve_encoder(str(linked)).fingerprint == resolve_encoder(str(built)).fingerprint


def test_a_module_behind_a_link_counts_wherever_it_leads(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "encoder"))
    shutil.copytree(folder / "2_Dense", folder / "3_Dense")
    other_dense_in(folder / "3_Dense")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["path"] = "9_Dense"
    (folder / "modules.json").write_text(json.dumps(modules))
    found = {}
    for target in ("2_Dense", "3_Dense"):
        (folder / "9_Dense").unlink(missing_ok=True)
        (folder / "9_Dense").symlink_to(target)
        found[resolve_encoder(str(folder)).fingerprint] = of_library(folder)
    assert len(found) == 2
    one, two = found.values()
    assert not np.allclose(one, two, atol=1e-3)


def test_names_and_links_of_every_kind_are_read_or_named(built: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "encoder"))
    before = resolve_encoder(str(folder)).fingerprint
    # Nothing reads a linked folder that is not a module's.
    (folder / "up").symlink_to("/proc")
    (folder / "back").symlink_to("..")
    (folder / "gone").symlink_to("/no/such/file")
    assert resolve_encoder(str(folder)).fingerprint == before
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.json")).write_text("{}")
    assert resolve_encoder(str(folder)).fingerprint != before
    # Regular, and never readable.
    (folder / "z.txt").symlink_to("/proc/self/mem")
    with pytest.raises(ModelError, match=r"z\.txt: cannot be read"):
        resolve_encoder(str(folder))


@pytest.mark.parametrize(
    "name", ["2_Dense/new.json", "vocabulary.txt", "spiece.model", "onnx/other.txt", "deep/er/x.npy"]
)
def test_an_unknown_file_counts(built: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_text("who knows")
    if name.startswith("onnx"):
        # A module may be in a folder of any name.
        modules = json.loads((copy / "modules.json").read_text())
        (copy / "2_Dense").rename(copy / "onnx" / "x")
        shutil.rmtree(copy / "onnx")
        shutil.copytree(built / "2_Dense", copy / "onnx")
        modules[2]["path"] = "onnx"
        (copy / "modules.json").write_text(json.dumps(modules))
        before = resolve_encoder(str(copy)).fingerprint
        (copy / name).write_text("who knows")
        assert resolve_encoder(str(copy)).fingerprint != before
    else:
        assert resolve_encoder(str(copy)).fingerprint != resolve_encoder(str(built)).fingerprint


def limited_by(folder: Path, where: str, limit: int) -> None:
    config = folder / "sentence_bert_config.json"
    edit("tokenizer_config.json", model_max_length=100)(folder)
    if where == "tokenizer_config.json":
        edit(where, model_max_length=limit)(folder)
    elif where == "sentence_bert_config.json":
        edit(where, max_seq_length=limit)(folder)
    elif where == "sentence_roberta_config.json":
        described = json.loads(config.read_text()) | {"max_seq_length": limit}
        config.unlink()
        (folder / where).write_text(json.dumps(described))
    elif where == "processing_kwargs":
        edit(config.name, processing_kwargs={"text": {"max_length": limit, "truncation": True}})(folder)
    else:
        edit("tokenizer_config.json", model_max_length=10**30)(folder)


@pytest.mark.parametrize(
    ("where", "limit"),
    [
        ("tokenizer_config.json", 32),
        ("sentence_bert_config.json", 20),
        ("sentence_roberta_config.json", 24),
        ("processing_kwargs", 16),
        ("config.json", 128),
    ],
)
def test_the_limit_is_what_the_loaded_encoder_reads(built: Path, tmp_path: Path, where: str, limit: int) -> None:
    folder = tmp_path / "limited"
    shutil.copytree(built, folder)
    limited_by(folder, where, limit)
    within, beyond = "a " * (limit - 2), "a " * (limit - 1)
    assert np.allclose(of_library(folder, beyond + "french"), of_library(folder, beyond + "add"), atol=1e-7)
    assert not np.allclose(of_library(folder, "a " * (limit - 3) + "french"), of_library(folder, within), atol=1e-7)
    for text, num_cut in ((within, 0), (beyond, 1)):
        first, cached = (embedded(folder, tmp_path / "cache", text) for _ in range(2))
        assert (first.max_tokens, first.num_cut, first.num_computed) == (limit, num_cut, 1)
        assert (cached.max_tokens, cached.num_cut, cached.num_computed) == (limit, num_cut, 0)
        assert cached.cuts == f"{counted(num_cut, 'text')} cut at the encoder's {limit} tokens"


def test_an_encoders_own_prompt_is_part_of_what_it_reads(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prompted"
    shutil.copytree(built, folder)
    VARIANTS["prompts"](folder)
    found = embedded(folder, tmp_path / "cache", "a " * 30)
    assert (found.num_tokens_N.tolist(), found.num_cut) == ([33], 1)


def test_static_embeddings_read_texts_of_any_length(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["?", *WORDS])}, unk_token="?"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(
        str(tmp_path / "static")
    )
    found = embedded(tmp_path / "static", tmp_path / "cache", "a french numbers " * 9000)
    assert (found.max_tokens, found.num_cut, found.num_tokens_N.tolist()) == (NO_LIMIT, 0, [27000])
    assert found.cuts == "the encoder reads texts of any length"
    assert Encoder(resolve_encoder(str(tmp_path / "static")), device="cpu").max_tokens == NO_LIMIT


def edit_arrays(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    return edited


def without(part: str) -> Callable[[Path], None]:
    return edit_arrays(lambda arrays: {name: array for name, array in arrays.items() if part not in name})


def of_another_shape(folder: Path) -> None:
    """A folder that asks the library to fill what does not fit with random numbers."""
    edit("config.json", vocab_size=20)(folder)
    edit("sentence_bert_config.json", model_args={"ignore_mismatched_sizes": True})(folder)


def without_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def piece_without_embedding(folder: Path) -> None:
    path = folder / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["model"]["vocab"]["piece"] = 31
    path.write_text(json.dumps(settings))


def with_a_part_of_its_vocabulary(folder: Path) -> None:
    name = "embeddings.word_embeddings.weight"
    edit_arrays(lambda arrays: arrays | {name: torch.cat([arrays[name], torch.zeros(30, 16)])})(folder)
    edit("config.json", vocab_size=44)(folder)


def with_nan(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    query = arrays["encoder.layer.0.attention.self.query.weight"]
    query[0, 0] = torch.nan
    return arrays


def with_whole_numbers(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "encoder.layer.0.attention.self.query.weight"
    return arrays | {name: arrays[name].to(torch.int8)}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without("attention.self.query.weight"), r"lack 1 array of the model, such as encoder\.layer\.0\.attention"),
        (without("word_embeddings"), "lack 1 array"),
        (edit_arrays(lambda arrays: {f"x.{name}": array for name, array in arrays.items()}), "lack .* arrays"),
        (edit("config.json", num_hidden_layers=2), r"lack .* such as encoder\.layer\.1\."),
        (
            edit_arrays(lambda arrays: arrays | {"encoder.layer.1.output.dense.bias": torch.zeros(16)}),
            r"have a layer encoder\.layer\.1, and by its config\.json the model has 1 layer there",
        ),
        (without_vocabulary, "has no pieces, so that every word would be unknown"),
        (
            of_another_shape,
            r"have embeddings\.word_embeddings\.weight in the shape \[14, 16\], .*in the shape \[20, 16\]",
        ),
        (edit("2_Dense/config.json", out_features=9), r"size mismatch for linear\.weight: .*Download it again"),
        (piece_without_embedding, r"has a piece with the id 3\d, and the model has \d+ embeddings"),
        (with_a_part_of_its_vocabulary, r"has \d+ pieces of the 44 that the model has embeddings for"),
        (edit_arrays(with_nan), r"numbers in .*query\.weight that are not finite"),
        (edit_arrays(with_whole_numbers), r"has .*query\.weight as whole numbers \(I8\)"),
    ],
)
def test_an_encoder_that_lacks_a_part_of_its_weights_or_its_vocabulary_is_refused(
    built: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    check_loaded_encoder(str(copy))
    damage(copy)
    for find in (check_loaded_encoder, lambda folder: Encoder(resolve_encoder(folder), device="cpu")):
        with pytest.raises(ModelError, match=rf"^embedding\.encoder: .*{said}"):
            find(str(copy))


def test_arrays_that_decide_no_vector_may_be_missing_or_without_a_place(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    without("pooler")(copy)
    edit_arrays(lambda arrays: arrays | {"cls.predictions.bias": torch.zeros(4)})(copy)
    vectors = [Encoder(resolve_encoder(str(folder)), device="cpu").encode([TEXT]) for folder in (built, copy)]
    np.testing.assert_array_equal(*vectors)


def test_a_cut_file_of_weights_is_found_before_it_is_loaded(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    check_encoder(str(copy))
    path = copy / "2_Dense" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"2_Dense/model\.safetensors cannot be read as weights"):
        check_encoder(str(copy))


def test_a_folder_that_changes_after_it_was_found_is_not_read(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    found = resolve_encoder(str(copy))
    other_dense(copy)
    with pytest.raises(ModelError, match=r"differs from the encoder that this command found when it started"):
        encode_here([TEXT], found, 1, lambda done, total: None)


def test_layers_of_another_part_of_a_checkpoint_may_be_without_a_place() -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(1, 1)])
    model = torch.nn.Module()
    model.encoder = torch.nn.Module()
    model.encoder.layers = layers
    refuse_more_layers(
        LoadedModel(model, frozenset(), frozenset({"vision.encoder.layers.7.weight"})), "x", "model.name"
    )
    with pytest.raises(
        ModelError, match=r"have a layer encoder\.layers\.1, and by its config\.json the model has 1 layer"
    ):
        refuse_more_layers(LoadedModel(model, frozenset(), frozenset({"encoder.layers.1.weight"})), "x", "model.name")
