"""What a user with a network gets by name: models, tokenizers and encoders from a hub that runs in this process.

The hub's client reads its endpoint when it is imported, so each user is a process of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hub_server import HubServer

from simtune import hub as hub_module
from simtune.config import EmbeddingSettings, ModelSettings, Sweep
from simtune.corpus.natural_instructions import parse_task_bytes
from simtune.embedding.encoder import resolve_encoder
from simtune.errors import ModelError
from simtune.grid.prepared_points import hub_commits
from simtune.prompting.tokenizer import TextTokenizer, load_tokenizer, train_tokenizer
from simtune.storage.files import file_sha256
from simtune.training.model import build_model, resolve_model

T5, ENCODER = "google-t5/t5-small", "someone/tiny-encoder"
OTHER, PICKLED = "someone/other-t5", "someone/pickled-t5"
# Imports once; then each line of its input is a Python expression that a process of its own evaluates.
USER = """
import json, os, sys, time
import huggingface_hub, sentence_transformers, torch
from transformers import AutoTokenizer, T5ForConditionalGeneration
from simtune.config import ModelSettings
from simtune.embedding.encoder import Encoder, resolve_encoder
from simtune.errors import ModelError
from simtune.hub import commit_of
from simtune.prompting.tokenizer import load_tokenizer
from simtune.training.model import build_model, resolve_model

def of_model(name, revision=None):
    settings = ModelSettings(name=name, revision=revision)
    tokenizer = load_tokenizer(settings, ())
    resolved = resolve_model(settings, tokenizer)
    model = build_model(resolved, 0, None)
    return {
        "ids": tokenizer.encode_batch(["Translate to French."]),
        "tokenizer": tokenizer.fingerprint,
        "revision": resolved.published.commit if resolved.published else None,
        "fingerprint": resolved.fingerprint,
        "sum": model.shared.weight.double().sum().item(),
    }

def of_moving(name):
    import urllib.request
    settings = ModelSettings(name=name)
    tokenizer = load_tokenizer(settings, ())
    urllib.request.urlopen(f"{os.environ['HF_ENDPOINT']}/push/{name}").close()
    resolved = resolve_model(settings, tokenizer)
    return [tokenizer.fingerprint, resolved.published.commit, resolved.fingerprint, commit_of(name, None)]

def of_encoder(name):
    resolved = resolve_encoder(name)
    vectors, _ = Encoder(resolved).encode(["Translate to French.", "Add two numbers"])
    return {"fingerprint": resolved.fingerprint, "revision": resolved.revision, "vectors": vectors.tolist()}

def refused(call):
    start = time.monotonic()
    try:
        call()
    except ModelError as error:
        return {"error": str(error), "seconds": time.monotonic() - start}

def part(name, files):
    for file in files:
        huggingface_hub.hf_hub_download(name, file)

def missing(name, revision=None):
    settings = ModelSettings(name=name, revision=revision)
    return [
        refused(lambda: resolve_model(settings, None)),
        refused(lambda: resolve_encoder(name, revision)),
        refused(lambda: load_tokenizer(settings, ())),
    ]

for expression in sys.stdin:
    if os.fork() == 0:
        answer = eval(expression)
        print("ANSWER", json.dumps(answer), flush=True)
        os._exit(0)
    _, status = os.wait()
    if status:
        print("DIED", flush=True)
"""


class User:
    """A machine with a home of its own that knows one hub."""

    def __init__(self, endpoint: str, home: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment |= {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.terminal = home / "terminal.txt"
        with self.terminal.open("w") as terminal:
            self._process = subprocess.Popen(
                [sys.executable, "-c", USER],
                env=environment,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=terminal,
                text=True,
            )

    def ask(self, expression: str) -> Any:
        """What a new process of this user answers."""
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
            if line == "DIED\n":
                break
        raise AssertionError(f"{expression}:\n{self.terminal.read_text()}")

    def leave(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def hub() -> HubServer:
    return HubServer({})


@pytest.fixture(scope="module")
def user(hub, tmp_path_factory) -> Iterator[User]:
    user = User(hub.endpoint, tmp_path_factory.mktemp("user"))
    yield user
    user.leave()


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    from simtune.corpus.demo import demo_tasks

    raw = list(demo_tasks().items())[:6]
    pool = [parse_task_bytes(name, json.dumps(task).encode(), name).task for name, task in raw]
    return train_tokenizer(pool, 400)


@pytest.fixture(scope="module")
def repositories(user, hub, tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Two T5s, one of them as published years ago (pickled weights only) too, and a sentence encoder.

    Asks for `user` so that its process imports torch at the same time as this one.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast, T5Config, T5ForConditionalGeneration

    root = tmp_path_factory.mktemp("hub")
    folders = {name: root / name for name in (T5, OTHER, PICKLED, ENCODER)}
    config = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "vocab_size": 512,
        "decoder_start_token_id": 0,
    }
    for seed, name in enumerate((T5, OTHER)):
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(T5Config(**config))
        model.save_pretrained(folders[name])
        tokenizer.tokenizer.save(str(folders[name] / "tokenizer.json"))
        described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
        (folders[name] / "tokenizer_config.json").write_text(json.dumps(described))
    shutil.copytree(folders[OTHER], folders[PICKLED])
    (folders[PICKLED] / "model.safetensors").unlink()
    torch.save(model.state_dict(), folders[PICKLED] / "pytorch_model.bin")
    for name in ("flax_model.msgpack", "pytorch_model.bin", "tokenization_own.py", "training_args.bin"):
        (folders[T5] / name).write_bytes(b"not to be downloaded")

    torch.manual_seed(2)
    raw = root / "raw-encoder"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "translate", "to", "french", "add", "two", "numbers", "."]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(raw)
    BertTokenizerFast(vocab={piece: number for number, piece in enumerate(pieces)}).save_pretrained(raw)
    SentenceTransformer(modules=[Transformer(str(raw)), Pooling(16)], device="cpu").save(str(folders[ENCODER]))
    hub.repositories |= folders
    return folders


def local_identity(folder: Path, tokenizer: TextTokenizer) -> dict[str, object]:
    resolved = resolve_model(ModelSettings(name=str(folder)), tokenizer)
    weights = build_model(resolved, 0, None).shared.weight
    return {"fingerprint": resolved.fingerprint, "sum": weights.double().sum().item()}


def test_by_name_online_then_from_the_cache(user, hub, repositories, tokenizer):
    everything = f"[of_model({T5!r}), of_model({OTHER!r}), of_encoder({ENCODER!r})]"
    with hub:
        online = user.ask(everything)
        commits = {name: hub.commit(name) for name in repositories}
        assert user.ask(f"of_model({T5!r}, {commits[T5]!r})") == online[0]
        downloads = [line for line in hub.requests if line.startswith("GET /")]
        assert len(set(downloads) & {line for line in downloads if "/cdn/" in line}) == 3
        assert not [line for line in downloads if line.endswith((".msgpack", ".bin", ".py"))]
        asked = len(hub.requests)
    assert user.ask(everything) == online
    assert len(hub.requests) == asked

    for found, name in zip(online, (T5, OTHER), strict=False):
        local = local_identity(repositories[name], tokenizer)
        # The same weights are the same model, from a folder or by name.
        assert {key: found[key] for key in local} == local
        assert found["revision"] == commits[name]
        assert found["ids"] == tokenizer.encode_batch(["Translate to French."])
    assert online[0]["sum"] != online[1]["sum"]
    assert online[2]["revision"] == commits[ENCODER]
    assert online[2]["fingerprint"] == resolve_encoder(str(repositories[ENCODER])).fingerprint


@pytest.mark.parametrize("state", ["serving", "stopped", "silent"])
def test_an_unknown_hub_name_is_one_line_within_seconds(user, hub, state):
    missing = "missing('no-one/nothing')"
    if state == "serving":
        with hub:
            answers, reason = user.ask(missing), "RepositoryNotFoundError: 401 Client Error"
    elif state == "stopped":
        answers, reason = user.ask(missing), "ConnectError: "
    else:
        with socket.create_server(("127.0.0.1", hub.port)):
            limit = "setattr(huggingface_hub.constants, 'HF_HUB_ETAG_TIMEOUT', 0.5)"
            answers, reason = user.ask(f"{limit} or {missing}"), "ReadTimeout: "
    for answer in answers:
        assert "'no-one/nothing'" in answer["error"]
        assert reason in answer["error"]
        assert "\n" not in answer["error"]
        assert answer["seconds"] < 5
    assert "Retrying" not in user.terminal.read_text()


@pytest.mark.usefixtures("repositories")
def test_a_revision_that_is_not_there_is_named(user, hub):
    with hub:
        for answer in user.ask(f"missing({T5!r}, 'v9')"):
            assert "RevisionNotFoundError" in answer["error"]


def test_a_download_cut_short_is_refused_and_the_next_try_works(user, hub, repositories, tokenizer):
    # A repository that this user does not have yet.
    hub.repositories["someone/later"] = repositories[T5]
    with hub:
        hub.cut_at = 1000
        answer = user.ask("refused(lambda: of_model('someone/later'))")
        hub.cut_at = None
        found = user.ask("of_model('someone/later')")
    assert answer, "a part of the weights was taken for the whole"
    assert "'someone/later'" in answer["error"]
    local = local_identity(repositories[T5], tokenizer)
    assert {key: found[key] for key in local} == local


def test_a_cache_with_a_part_of_a_repository_is_completed_and_without_a_hub_not_taken_for_the_whole(
    user, hub, repositories
):
    # As a program leaves it that needs other files.
    encoder, model = "someone/part-of-encoder", "someone/part-of-t5"
    hub.repositories |= {encoder: repositories[ENCODER], model: repositories[T5]}
    with hub:
        user.ask(f"part({encoder!r}, ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'])")
        user.ask(f"part({model!r}, ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'])")
    for name, call in ((encoder, "of_encoder"), (model, "of_model")):
        answer = user.ask(f"refused(lambda: {call}({name!r}))")
        assert answer, f"a part of {name} was taken for the whole"
        assert repr(name) in answer["error"]
        with hub:
            found = user.ask(f"{call}({name!r})")
            whole = user.ask(f"{call}({ENCODER if call == 'of_encoder' else T5!r})")
        assert found["fingerprint"] == whole["fingerprint"]
        assert user.ask(f"{call}({name!r})") == found, "a whole one needs no hub"


def test_weights_are_named_by_their_content_in_the_hubs_shared_store_too(repositories, tokenizer, tmp_path):
    # With its Xet back end the hub's cache links a blob, named by SHA-256, to a file named by a hash of another kind.
    plain = resolve_model(ModelSettings(name=str(repositories[T5])), tokenizer)
    shutil.copytree(repositories[T5], tmp_path / "snapshot")
    weights = tmp_path / "snapshot/model.safetensors"
    store, blob = tmp_path / ("e" * 64), tmp_path / "blobs" / file_sha256(weights)
    blob.parent.mkdir()
    weights.rename(store)
    blob.symlink_to(store)
    weights.symlink_to(blob)
    linked = resolve_model(ModelSettings(name=str(tmp_path / "snapshot")), tokenizer)
    assert linked.fingerprint == plain.fingerprint


def test_a_repository_that_changes_meanwhile_is_taken_at_one_commit(user, hub, repositories, tokenizer, tmp_path):
    name = "someone/moving"
    hub.repositories[name] = shutil.copytree(repositories[T5], tmp_path / "before")
    hub.coming[name] = shutil.copytree(repositories[OTHER], tmp_path / "after")
    before = hub.commit(name)
    with hub:
        fingerprint, revision, model, commit = user.ask(f"of_moving({name!r})")
        assert hub.commit(name) != before, "the repository did not change"
    assert revision == commit == before
    assert fingerprint == tokenizer.fingerprint
    assert model == local_identity(tmp_path / "before", tokenizer)["fingerprint"]


def test_a_repository_of_pickles_alone_is_refused_and_nothing_of_it_is_fetched(user, hub, repositories):
    with hub:
        answer = user.ask(f"refused(lambda: of_model({PICKLED!r}))")
        fetched = [line for line in hub.requests if "/cdn/" in line and PICKLED in line]
    assert "pickled weights are never read" in answer["error"]
    assert fetched == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}'])
def test_a_damaged_index_of_weights_is_named(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json cannot be read as an index of weights"):
        hub_module._has_all_weights(tmp_path, "model.name")


def test_a_folder_without_a_part_says_which(repositories, tokenizer, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(repositories[T5], folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        resolve_model(ModelSettings(name=str(folder)), tokenizer)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"model\.name: no tokenizer could be loaded"):
        load_tokenizer(ModelSettings(name=str(folder)), ())
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model(ModelSettings(name=str(folder)), tokenizer)


def test_weights_that_lack_an_array_are_refused(repositories, tokenizer, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(repositories[T5], folder)
    arrays = load_file(folder / "model.safetensors")
    del arrays["encoder.block.0.layer.0.SelfAttention.q.weight"]
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    resolved = resolve_model(ModelSettings(name=str(folder)), tokenizer)
    with pytest.raises(ModelError, match=r"lack 1 array of the model, such as encoder\.block\.0\.layer\.0"):
        build_model(resolved, 0, None)


def test_commits_of_everything_from_the_hub_are_reported_by_name(monkeypatch, tmp_path):
    commits = {(T5, "v1"): "a" * 40, (ENCODER, None): "b" * 40, ("someone/tokens", None): "c" * 40}
    monkeypatch.setattr(hub_module, "_commits", commits)
    sweep = Sweep(
        name="x",
        model=ModelSettings(name=T5, revision="v1", tokenizer="someone/tokens"),
        embedding=EmbeddingSettings(encoder=ENCODER),
    )
    local = Sweep(name="y", model=ModelSettings(name=str(tmp_path)), embedding=EmbeddingSettings(encoder=str(tmp_path)))
    prepared_points = [SimpleNamespace(sweep=sweep), SimpleNamespace(sweep=local)]
    assert hub_commits(prepared_points) == {f"{T5}@v1": "a" * 40, ENCODER: "b" * 40, "someone/tokens": "c" * 40}
