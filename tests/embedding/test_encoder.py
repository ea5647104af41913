from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_encoder import NAME, needs_wheel

from simtune.embedding import encoder as encoder_module
from simtune.embedding.encoder import Encoder, resolve_encoder
from simtune.errors import ModelError


@needs_wheel
def test_the_wheel_with_one_flipped_byte_is_refused(tmp_path, monkeypatch):
    genuine = resolve_encoder(NAME)
    copy = tmp_path / "tampered_wheel" / "model"
    copy.mkdir(parents=True)
    (copy.parent / "__init__.py").touch()
    for path in genuine.folder.iterdir():
        (copy / path.name).symlink_to(path)
    monkeypatch.syspath_prepend(tmp_path)
    *_, sha256 = encoder_module._WHEELS[NAME]
    monkeypatch.setitem(encoder_module._WHEELS, NAME, ("tampered_wheel", "model", sha256))
    assert resolve_encoder(NAME).fingerprint == genuine.fingerprint

    (copy / "model.safetensors").unlink()
    shutil.copy(genuine.folder / "model.safetensors", copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ModelError, match=r"SHA-256 .* expected .* Reinstall the package \(tampered-wheel\)"):
        resolve_encoder(NAME)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="SHA-256 no file"):
        resolve_encoder(NAME)


def test_what_decides_a_vector_decides_the_fingerprint(settings):
    folder = Path(settings.encoder)
    before = resolve_encoder(settings.encoder).fingerprint
    (folder / "README.md").write_text("nothing that decides")
    assert resolve_encoder(settings.encoder).fingerprint == before
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 13}')
    assert resolve_encoder(settings.encoder).fingerprint != before


def test_a_folder_that_is_no_encoder_is_an_error_that_names_it(settings, tmp_path):
    with pytest.raises(ModelError, match=r"^embedding\.encoder: .*model\.safetensors cannot be read as weights"):
        Encoder(resolve_encoder(settings.encoder), device="cpu")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ModelError, match=r"has no \*\.safetensors"):
        resolve_encoder(str(tmp_path / "nothing"))
