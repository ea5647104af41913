"""Shared fixtures. Real data is beside the checkout on some machines; tests that need it skip elsewhere."""

from __future__ import annotations

import gc
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from isolated import RayProcess
from object_servers import ObjectServer

# Sets how threads wait, before any test module loads torch or numpy.
import simtune  # noqa: F401
from sweeps import tiny_fields

# Some tests use the benchmarks' drivers.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

# Files whose tests start Ray, in two groups that take about as long, so that at most two run at the same time with any
# number of test processes: a Ray has a dozen processes.
RAY_FILES = {
    "tests/executors/test_ray_faults.py": 1,
    "tests/executors/test_ray_isolation.py": 1,
    "tests/test_quickstart.py": 1,
    # These share one.
    "tests/executors/test_ray_data.py": 1,
    "tests/executors/test_ray_train.py": 1,
    "tests/graph/test_neighbours.py": 1,
    "tests/test_threads.py": 1,
    "tests/executors/test_ray_cluster.py": 2,
    "tests/executors/test_several_sweeps.py": 2,
    "tests/executors/hosts/test_ray_preflight.py": 2,
    "tests/sweep/test_object_storage.py": 2,
}
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure() -> None:
    # Under nohup or in the background, the processes that tests start would ignore a hang-up or Ctrl-C, too.
    # They inherit no handler.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts tests that take longest first, so that several workers end at the same time."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        if item.get_closest_marker("ray") and file.startswith("tests/") and file not in RAY_FILES:
            raise pytest.UsageError(f"{file} starts Ray and is not among RAY_FILES in tests/conftest.py")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("ray", "slow", "fault")])


def pytest_collection_finish() -> None:
    # A run collects garbage after each trial. It need not look through pytest's items and all modules each time.
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps all tests of a file on one worker, and those of each group of files that start Ray, too."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return f"ray {RAY_FILES[file]}" if file in RAY_FILES else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real data (../shared/data) is not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def ray_process() -> Iterator[RayProcess]:
    """An executor with a local Ray in another process."""
    process = RayProcess()
    yield process
    process.close()


@pytest.fixture(scope="session")
def embedding_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage whose cache holds the demo corpus's embeddings, encoded once a session."""
    from simtune.config import CorpusSettings, EmbeddingSettings, EvaluationSettings
    from simtune.corpus.pool import build_task_sets
    from simtune.embedding.embed import embed_tasks, encode_here

    root = tmp_path_factory.mktemp("embedded") / "cache" / "embeddings"
    tasks = build_task_sets(CorpusSettings(min_instances=1), EvaluationSettings())
    embed_tasks((*tasks.pool, *tasks.test), EmbeddingSettings(), root, encode_here)
    return root


@pytest.fixture
def storage(tmp_path: Path, embedding_cache: Path) -> Path:
    """An empty storage in which the demo corpus is embedded already."""
    root = tmp_path / "runs"
    (root / "cache").mkdir(parents=True)
    (root / "cache" / "embeddings").symlink_to(embedding_cache)
    return root


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ObjectServer]]:
    """From the scheme of an object store's addresses to its server, which starts at its first use."""
    from object_servers import SERVERS, azurite

    with ExitStack() as running:

        @cache
        def server(scheme: str) -> ObjectServer:
            if scheme == "az" and azurite() is None:
                pytest.skip("Azurite is not installed (npm install --global azurite@3.35)")
            folder = tmp_path_factory.mktemp(scheme)
            return folder, running.enter_context(SERVERS[scheme](folder))

        yield server


@pytest.fixture
def object_storage(
    object_server: Callable[[str], ObjectServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """From a scheme to an empty storage in that kind of object store."""
    from object_servers import BUCKET

    def storage(scheme: str) -> str:
        for name, value in object_server(scheme)[1].items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return f"{scheme}://{BUCKET}/{tmp_path.name}/runs"

    return storage


@pytest.fixture(scope="session")
def s3_folder(object_server: Callable[[str], ObjectServer]) -> ObjectServer:
    return object_server("s3")


@pytest.fixture
def s3_storage(object_storage: Callable[[str], str]) -> str:
    """An empty storage in S3."""
    return object_storage("s3")


@pytest.fixture
def tiny_sweep(storage: Path) -> dict[str, Any]:
    """A sweep of seconds on the demo corpus, as the fields of its file."""
    return tiny_fields(storage)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path) -> Path:
    import yaml

    from simtune.config import load_sweep
    from simtune.executors.inline import InlineExecutor
    from simtune.progress import Quiet
    from simtune.sweep.run import run_sweep

    root = tmp_path_factory.mktemp("finished") / "runs"
    shutil.copytree(embedding_cache, root / "cache" / "embeddings")
    fields = tiny_fields(root) | {"selection": {"strategies": ["random"], "sizes": [2], "seeds": [0]}}
    fields["training"] |= {"keep": "last"}
    (root / "sweep-file.yaml").write_text(yaml.safe_dump(fields))
    run_sweep(load_sweep(root / "sweep-file.yaml"), InlineExecutor(), Quiet())
    return root


@pytest.fixture
def finished(tmp_path: Path, _finished: Path) -> Path:
    """The storage of a finished run `tiny` of `sweep-file.yaml`: a trial that trained and keeps weights, two baselines.

    Trained once a session; each test has a copy, whose place `--set storage=` names.
    """
    return shutil.copytree(_finished, tmp_path / "finished")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if not (mount and unmount) or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here: that needs an administrator's rights")
    yield place
    subprocess.run([unmount, "--lazy", str(place)], check=True)
