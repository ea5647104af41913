"""How CI handles the answers of pip-audit's services."""

from __future__ import annotations

import importlib.util
import json
import stat
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    path = Path(__file__).parents[1] / ".ci/audit.py"
    spec = importlib.util.spec_from_file_location("audit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "a", "version": "1", "vulns": []}
HURT = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ({"pypi": [SOUND, UNKNOWN]}, 0, "packages: 1, known vulnerabilities: 0"),
        ({"pypi": [SOUND, HURT]}, 1, "b 2: CVE-1, fixed in 3"),
        ({"pypi": [UNKNOWN], "osv": [HURT]}, 1, "b 2: CVE-1"),
        ({"pypi": [UNKNOWN], "osv": [UNKNOWN]}, 0, "audit: skipped, neither"),
        ({}, 0, "audit: skipped, neither"),
    ],
)
def test_findings_fail_and_a_missing_answer_is_reported(audit, tmp_path, monkeypatch, capsys, answers, code, said):
    program = tmp_path / "pip-audit"
    for service, packages in answers.items():
        (tmp_path / f"{service}.answer").write_text(json.dumps({"dependencies": packages}))
    # pip-audit as far as it matters: the answer goes to --output, the last argument; 1 says that something was found.
    program.write_text(
        f'#!/bin/sh\nfor last; do :; done\ncp "{tmp_path}/$(basename "$last" .json).answer" "$last"\nexit 1\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(audit, "install_pip_audit", lambda environment: program)
    assert audit.main("anywhere") == code
    assert said in capsys.readouterr().out


def test_without_pip_audit_it_is_skipped(audit, monkeypatch, capsys):
    def absent(environment):
        raise audit.subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(audit, "install_pip_audit", absent)
    assert audit.main("anywhere") == 0
    assert capsys.readouterr().out == "audit: skipped, pip-audit cannot be installed (CalledProcessError)\n"
