import pytest
import tokenizers


@pytest.fixture(scope="module")
def byte_level_tokenizer(tmp_path_factory):
    """A folder with a byte-level BPE tokenizer of GPT-2's kind, trained on two lines."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(["東京の天気は 晴れです the cat sat", "the cat  ran"] * 3, vocab_size=320)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
