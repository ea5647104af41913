from __future__ import annotations

import pytest

from simtune.config import EmbeddingSettings


@pytest.fixture
def settings(tmp_path) -> EmbeddingSettings:
    """An encoder that can be named but is never loaded."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    return EmbeddingSettings(encoder=str(folder))
