"""From tasks to their embeddings: from the cache, or else from the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from simtune.config.settings import EmbeddingSettings
from simtune.corpus.task import Task
from simtune.embedding.batches import CPU_BATCH_TOKENS, batches_by_length
from simtune.embedding.cache import EmbeddingCache, Encoded, text_key
from simtune.embedding.encoder import NO_LIMIT, Encoder, ResolvedEncoder, resolve_encoder, same_encoder
from simtune.embedding.task_text import task_text
from simtune.errors import CorpusError, ModelError
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

OnProgress = Callable[[int, int], None]


class EncodeTexts(Protocol):
    """Encodes texts somewhere: in this process, or on a cluster."""

    def __call__(
        self, texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
    ) -> list[Encoded | str]:
        """One result for each text, in order: its vector, or why it has none.

        Args:
            texts: to encode.
            resolved: the encoder.
            batch_size: maximum number of texts of a batch.
            on_progress: called with (texts done, texts in all).
        """
        ...


@dataclass(frozen=True)
class TaskEmbeddings:
    """Embeddings of tasks.

    Attributes:
        names: task names, n of them.
        embeddings_ND: float32 [n, d], rows of length 1.
        num_tokens_N: int32 [n], tokens of each text before the encoder's cut.
        max_tokens: the encoder's limit; `NO_LIMIT` where it has none.
        encoder_fingerprint: which weights.
        num_computed: number of texts that were encoded now; the others came from the cache.
        num_damaged: damaged rows or files of the cache.
    """

    names: tuple[str, ...]
    embeddings_ND: np.ndarray
    num_tokens_N: np.ndarray
    max_tokens: int
    encoder_fingerprint: str
    num_computed: int
    num_damaged: int

    @property
    def num_cut(self) -> int:
        """Texts longer than the encoder reads."""
        return int((self.num_tokens_N > self.max_tokens).sum())

    @property
    def cuts(self) -> str:
        """How many texts the encoder cuts, in words."""
        if self.max_tokens == NO_LIMIT:
            return "the encoder reads texts of any length"
        return f"{counted(self.num_cut, 'text')} cut at the encoder's {counted(self.max_tokens, 'token')}"

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """The rows of these tasks, float32 [len(names), d], in this order."""
        rows = {name: row for row, name in enumerate(self.names)}
        return self.embeddings_ND[[rows[name] for name in names]]

    def table(self) -> pa.Table:
        """`embeddings.parquet`: task, embedding, num_tokens."""
        import pyarrow as pa

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.embeddings_ND.ravel()), self.embeddings_ND.shape[1])
        return pa.table({"task": list(self.names), "embedding": vectors, "num_tokens": self.num_tokens_N})


def embed_tasks(
    tasks: Sequence[Task],
    embedding: EmbeddingSettings,
    cache_root: Path,
    encode_texts: EncodeTexts,
    on_progress: OnProgress = lambda done, total: None,
    encoder: ResolvedEncoder | None = None,
) -> TaskEmbeddings:
    """Embeds tasks, encoding only texts that are not in the cache.

    Texts are encoded in an order that depends on their content alone, so that the same missing texts give the same
    batches, and the same batches the same bytes.

    Args:
        tasks: what to embed.
        embedding: the settings.
        cache_root: the folder with a cache for each encoder.
        encode_texts: where encoders run.
        on_progress: called with the number of texts that are encoded and of those to encode.
        encoder: the one that the settings name, if it was found before; its files are then not read again.

    Raises:
        ModelError: the encoder cannot be loaded, or embeds no text.
        CorpusError: a task's text cannot be encoded; names the task.
    """
    resolved = encoder or resolve_encoder(embedding.encoder, embedding.revision)
    cache = EmbeddingCache(cache_root, resolved.fingerprint)
    texts = {text_key(text): text for text in (task_text(task, embedding) for task in tasks)}
    known = cache.load(list(texts))
    missing = sorted(texts.keys() - known.keys())
    if missing:
        # Before the encoder is loaded, which takes seconds.
        on_progress(0, len(missing))
        results = encode_texts([texts[key] for key in missing], resolved, embedding.batch_size, on_progress)
        computed = {key: result for key, result in zip(missing, results, strict=True) if isinstance(result, Encoded)}
        if len(missing) > 1 and not computed:
            raise ModelError(
                f"{resolved.folder} could embed none of {counted(len(missing), 'text')} ({results[0]}): its files do "
                "not belong together. Download it again, or give another encoder",
                field="embedding.encoder",
            )
        cache.add(computed)
        known |= computed
    keys = [text_key(task_text(task, embedding)) for task in tasks]
    for task, key in zip(tasks, keys, strict=True):
        if key not in known:
            reason = results[missing.index(key)]
            raise CorpusError(f"task {task.name}: its text cannot be embedded ({reason}). Fix the task or leave it out")
    return TaskEmbeddings(
        names=tuple(task.name for task in tasks),
        embeddings_ND=np.stack([known[key].vector_D for key in keys]),
        num_tokens_N=np.array([known[key].num_tokens for key in keys], dtype=np.int32),
        max_tokens=known[keys[0]].max_tokens,
        encoder_fingerprint=resolved.fingerprint,
        num_computed=len(missing),
        num_damaged=cache.num_damaged,
    )


def encode_here(
    texts: Sequence[str], resolved: ResolvedEncoder, batch_size: int, on_progress: OnProgress
) -> list[Encoded | str]:
    """Encodes texts in this process.

    Raises:
        ModelError: the encoder cannot be loaded, or its files have changed since it was found.
    """
    encoder = Encoder(same_encoder(resolved.name, resolved.revision, resolved.fingerprint))
    num_tokens_N = encoder.count_tokens(texts)
    results: list[Encoded | str] = ["not encoded"] * len(texts)
    done = 0
    batch_tokens = None if encoder.on_gpu else CPU_BATCH_TOKENS
    for rows in batches_by_length(num_tokens_N, encoder.max_tokens, batch_size, batch_tokens):
        for row, vector in zip(rows, encode_batch(encoder, [texts[row] for row in rows]), strict=True):
            num_tokens = int(num_tokens_N[row])
            results[row] = vector if isinstance(vector, str) else Encoded(vector, num_tokens, encoder.max_tokens)
        done += len(rows)
        on_progress(done, len(texts))
    return results


def encode_batch(encoder: Encoder, texts: Sequence[str]) -> list[np.ndarray | str]:
    """Each text's unit vector, float32 [d], or why it has none.

    If a batch fails, each text is encoded alone, so that the error belongs to the text that causes it.
    """
    try:
        vectors_ND = encoder.encode(texts)
    except Exception as error:
        if len(texts) == 1:
            return [f"{type(error).__name__}: {error}"]
        return [vector for text in texts for vector in encode_batch(encoder, [text])]
    norms_N = np.linalg.norm(vectors_ND, axis=1)
    return [
        vector_D if np.isfinite(norm) and abs(norm - 1) < 1e-3 else f"the encoder returned a vector of length {norm}"
        for vector_D, norm in zip(vectors_ND, norms_N, strict=True)
    ]
