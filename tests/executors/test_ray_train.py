"""Where Ray puts a trial's workers and what they share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.train
import torch
from isolated import RayProcess
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from simtune.executors.ray_folder import LOCAL_RAY
from simtune.executors.ray_train import _in_worker, _PrivateRendezvous, _Rendezvous, _WorkersHere
from simtune.training.engine import World


def test_each_worker_of_a_host_computes_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(get_world_rank=lambda: 3, get_world_size=lambda: 4)
    current: list[torch.device] = []
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    # What Ray says where the first two of a host's workers have the devices 0 and 1 too.
    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cuda:1"))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    worlds: list[World] = []
    body = {"body": lambda world, config: worlds.append(world), "config": {}, "threads": torch.get_num_threads()}
    _in_worker(body)
    assert worlds == [World(3, 4, "cuda:1")]
    assert current == [torch.device("cuda:1")]
    # DeepSpeed takes its device from here.
    assert os.environ["LOCAL_RANK"] == "1"


@pytest.mark.parametrize(("here", "workers", "private"), [(True, 2, True), (False, 1, True), (False, 2, False)])
def test_only_workers_of_several_hosts_find_each_other_through_a_port(here, workers, private, monkeypatch) -> None:
    monkeypatch.delenv(LOCAL_RAY, raising=False)
    if here:
        monkeypatch.setenv(LOCAL_RAY, "/somewhere")
    assert (_Rendezvous(False, workers).backend_cls is _PrivateRendezvous) is private


_SHARED = """
import json, numpy as np, ray
from simtune.training.examples import Ragged, TokenisedTasks

rows = Ragged(np.zeros(1 << 20, dtype=np.int32), np.arange(0, (1 << 20) + 1, 8))
data = TokenisedTasks(("a",), np.array([0, len(rows)]), rows, rows, np.arange(len(rows) + 1), 0, 0)

@ray.remote(num_cpus=1)
class Worker:
    def read(self, data):
        arrays = data.sources.ids, data.sources.offsets, data.references.ids, data.reference_offsets
        maps = [line.split() for line in open("/proc/self/maps")]
        lies_in = {}
        for begin, end, name in [(*line[0].split("-"), " ".join(line[5:])) for line in maps]:
            for number, array in enumerate(arrays):
                if int(begin, 16) <= array.ctypes.data < int(end, 16):
                    lies_in[number] = name
        return lies_in, [array.flags.writeable for array in arrays]

reference = ray.put(data)
print(json.dumps(ray.get([worker.read.remote(reference) for worker in (Worker.remote(), Worker.remote())])))
"""


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list a process's maps")
def test_workers_of_a_node_read_token_columns_in_the_object_store_itself(ray_process: RayProcess) -> None:
    one, two = json.loads(ray_process.run(_SHARED))
    for lies_in, writeable in (one, two):
        assert len(lies_in) == 4
        assert all("plasma" in name for name in lies_in.values()), lies_in
        assert not any(writeable)
    assert one == two


def test_the_methods_that_a_local_run_replaces_are_those_of_ray() -> None:
    replaced = {name for name in vars(_WorkersHere) if not name.startswith("__")} - {"_abc_impl"}
    assert replaced == {"_send_resource_request", "_maybe_send_resource_request", "_cancel_resource_request"}
    assert replaced <= set(dir(FixedScalingPolicy))
    assert "_initialize_and_run_controller" in vars(DataParallelTrainer)
