"""What the reports of hosts say about a cluster: one line for each problem, with its hosts and its remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from simtune.executors.hosts.host_reports import HostFacts, HostReport, compare_hosts, problem_lines
from simtune.executors.hosts.tables import hosts_table

GIB = 1 << 30
DRIVER = HostFacts(
    host="head",
    versions={
        "python": "3.11.7",
        "simtune": "0.1.0",
        "ray": "2.60.0",
        "torch": "2.13.0+cpu",
        "deepspeed": "0.19.8",
        "transformers": "5.23.0",
    },
    code="a" * 64,
    commit="c" * 40,
    cuda_driver="",
    cuda=None,
    memory_bytes=16 * GIB,
    disk_bytes=100 * GIB,
    shm_bytes=8 * GIB,
    found={"storage": {"": ""}, "encoder": {"mini": "11 config.json"}, "model": {"t5": "22 config.json"}},
)


def host(name: str, num_cpus: int = 4, num_gpus: float = 0, **changes: Any) -> HostReport:
    return HostReport(f"id-{name}", name, num_cpus, num_gpus, replace(DRIVER, host=name, **changes))


def versions(**changes: str) -> dict[str, str]:
    return {**DRIVER.versions, **changes}


def lines(*reports: HostReport, driver: HostFacts = DRIVER) -> list[str]:
    return problem_lines(compare_hosts(driver, reports, [report.id for report in reports]).problems)


def shown(*reports: HostReport) -> str:
    console = Console(width=240)
    with console.capture() as captured:
        console.print(hosts_table(compare_hosts(DRIVER, reports, [report.id for report in reports])))
    return captured.get()


def test_equal_hosts_have_no_problem_and_builds_of_torch_may_differ() -> None:
    cuda = {"devices": 2, "reason": ""}
    gpu = host("gpu", 8, 2, versions=versions(torch="2.13.0+cu130", python="3.11.9"), cuda=cuda, cuda_driver="580.1")
    assert compare_hosts(DRIVER, [host("h1"), gpu], ["id-h1", "id-gpu"]).problems == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"code": ""}, "simtune is not installed there; install the driver's"),
        (
            {"code": "b" * 64, "commit": "d" * 40},
            "a different simtune is installed there: simtune 0.1.0 (code bbbbbbbb, commit dddddddddddd), the driver "
            "has simtune 0.1.0 (code aaaaaaaa, commit cccccccccccc). Install the driver's code",
        ),
        (
            {"versions": versions(torch="2.12.1", deepspeed="")},
            "has torch 2.12.1, no deepspeed, the driver has torch 2.13.0+cpu, deepspeed 0.19.8. Install",
        ),
        ({"versions": versions(python="3.12.7")}, "has python 3.12.7, the driver has python 3.11.7. Install"),
        ({"versions": versions(ray="2.61.0")}, "has ray 2.61.0"),
        ({"versions": versions(transformers="5.24.0")}, "has transformers 5.24.0"),
        ({"problems": {"storage": {"": "/runs: is another"}}}, "/runs: is another"),
        (
            {"found": {"encoder": {"mini": "33 config.json"}}},
            "encoder mini: its files there differ from the driver's, for example config.json. Copy",
        ),
    ],
)
def test_a_problem_names_the_host_and_the_remedy(changes: dict[str, Any], expected: str) -> None:
    (line,) = lines(host("h1"), host("h2", **changes))
    assert line.startswith(f"host h2: {expected}")


def test_files_that_the_hub_still_has_are_no_difference() -> None:
    assert lines(host("h1", found={"model": {"t5": ""}})) == []
    assert "to download" in shown(host("h1", found={"model": {"t5": ""}}))


def test_gpus_that_torch_does_not_see_are_a_problem_where_ray_offers_them() -> None:
    blind = host("h1", 8, 2, cuda={"devices": 1, "reason": ""})
    none = host("h2", 8, 2, cuda={"devices": 0, "reason": "the driver is too old"})
    first, second = lines(blind, none, host("h3", 8, 0, cuda=None))
    assert first.startswith("host h1: Ray offers 2 GPUs there, torch sees 1 (no reason given). Install")
    assert second.startswith("host h2: Ray offers 2 GPUs there, torch sees 0 (the driver is too old). Install")


def test_one_problem_of_many_hosts_is_one_line() -> None:
    problem = {"storage": {"": "s3://bucket: refused. Give the host a role"}}
    driver = replace(DRIVER, problems=problem)
    (line,) = lines(*(host(f"h{number:02}", problems=problem) for number in range(11)), driver=driver)
    assert line == (
        "hosts head (driver), h00, h01, h02, h03, h04, h05, h06 and 4 more: s3://bucket: refused. Give the host a role"
    )


def test_a_host_without_an_answer_is_a_problem() -> None:
    silent = HostReport("id-h2", "h2", 4, 0, None, "did not answer within 60 s")
    assert lines(host("h1"), silent) == ["host h2: did not answer within 60 s"]
    assert "no answer" in shown(host("h1"), silent)


def test_a_host_whose_files_the_driver_does_not_see_is_a_problem() -> None:
    reports = [host("h1"), host("h2"), host("h3", found={})]
    (problem,) = compare_hosts(DRIVER, reports, ["id-h1"]).problems
    assert problem.host == "h2"
    assert "the driver does not see the files that this host writes there. Mount one shared folder" in problem.text
    assert compare_hosts(DRIVER, reports).problems == ()


def test_scarce_space_and_different_drivers_are_warnings() -> None:
    cuda = {"devices": 2, "reason": ""}
    small = host("h1", 8, 2, cuda=cuda, cuda_driver="570.1", disk_bytes=GIB, shm_bytes=GIB // 16)
    found = compare_hosts(DRIVER, [small, host("h2", 8, 2, cuda=cuda, cuda_driver="580.2")], ["id-h1", "id-h2"])
    assert found.problems == ()
    disk, shm, drivers = found.warnings
    assert disk.startswith("host h1: only 1.0 GiB are free")
    assert shm.startswith("host h1: shared memory has 0.1 GiB")
    assert drivers.startswith("NVIDIA's driver differs: 570.1 on host h1; 580.2 on host h2.")


def test_a_host_that_has_left_is_a_warning() -> None:
    gone = HostReport("id-h2", "h2", 4, 0, None, "left the cluster while it was checked", has_left=True)
    found = compare_hosts(DRIVER, [host("h1"), gone], ["id-h1"])
    assert found.problems == ()
    assert found.warnings == ("host h2: left the cluster while it was checked",)
    assert "has left" in shown(host("h1"), gone)


def test_of_a_model_on_a_hub_a_host_may_lack_files_but_not_have_others() -> None:
    all_files = "11 config.json\n22 model-00001-of-00002.safetensors\n33 model-00002-of-00002.safetensors"
    driver = replace(DRIVER, found={"model": {"someone/t5 at abc": all_files, "/models/t5": all_files}})

    def problems(**found: str) -> list[str]:
        return [problem.text for problem in compare_hosts(driver, [host("h2", found={"model": found})]).problems]

    part = "11 config.json\n22 model-00001-of-00002.safetensors"
    assert problems(**{"someone/t5 at abc": part}) == []
    (problem,) = problems(**{"someone/t5 at abc": part.replace("22", "44")})
    assert problem.startswith(
        "model someone/t5 at abc: its files there differ from the driver's, for example model-00001"
    )
    (problem,) = problems(**{"/models/t5": part})
    assert problem.startswith("model /models/t5: its files there differ from the driver's, for example model-00002")


def test_the_table_has_a_row_for_each_host_and_the_largest_worker() -> None:
    other = host("h2", 2, 0, code="b" * 64, versions=versions(torch="2.12.0"), problems={"storage": {"": "none"}})
    text = shown(host("h1", 16, 2, cuda={"devices": 2, "reason": ""}, cuda_driver="580.1"), other)
    title, _, _, first, second, caption, *_ = [line for line in text.splitlines() if line.strip()]
    assert title.startswith("2 hosts, 3 problems")
    assert first.split() == ["h1", "16", "2", "16.0", "100.0", "8.0", "580.1", "same", "yes", "yes", "yes"]
    assert "simtune 0.1.0 (code bbbbbbbb, commit cccccccccccc), torch 2.12.0 " in second
    assert second.split()[-3:] == ["no", "yes", "yes"]
    assert "torch 2.13.0+cpu" in caption
    assert "16 CPUs and 1 GPU, on h1" in text


def test_without_gpus_and_models_the_table_fits_eighty_columns() -> None:
    driver = replace(DRIVER, found={"storage": {"": ""}, "encoder": {"mini": "11 config.json"}})
    reports = [host("ip-172-31-255-255", 128, found=driver.found)]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(hosts_table(compare_hosts(driver, reports, ["id-ip-172-31-255-255"])))
    _, headings, _, row, *_ = captured.get().splitlines()
    assert headings.split() == ["host", "CPUs", "GiB", "disk", "shm", "versions", "storage", "encoder"]
    assert row.split() == ["ip-172-31-255-255", "128", "16.0", "100.0", "8.0", "same", "yes", "yes"]
