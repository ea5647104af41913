"""Looks up every installed package in the public list of known vulnerabilities, where that list can be reached.

python .ci/audit.py SITE_PACKAGES

Ends with 1 where a package has a known vulnerability. Where pip-audit or its service is out of reach, one line says so
and nothing fails: what cannot be known here is known on the next machine. pip-audit lives in an environment of its own,
so that its dependencies are not among those that are tested.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

INSTALL_S, AUDIT_S = 40, 25
SERVICES = ("pypi", "osv")


def main(site_packages: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        try:
            audit = installed(Path(folder) / "venv")
        except (OSError, subprocess.SubprocessError) as error:
            return skipped(f"pip-audit cannot be installed ({type(error).__name__})")
        for service in SERVICES:
            packages = audited(audit, site_packages, service, Path(folder) / f"{service}.json")
            if packages:
                return told(packages)
    return skipped("neither PyPI nor OSV told of any package")


def installed(environment: Path) -> Path:
    """Makes an environment with pip-audit in it; returns the program."""
    venv.create(environment, with_pip=True)
    command = [str(environment / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "pip-audit"]
    subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=True)
    return environment / "bin/pip-audit"


def audited(audit: Path, site_packages: str, service: str, report: Path) -> list[dict[str, Any]]:
    """The packages that the service knows; none where it does not answer."""
    command = [str(audit), "--path", site_packages, "--skip-editable", "--progress-spinner", "off", "--timeout", "5"]
    command += ["--vulnerability-service", service, "--format", "json", "--output", str(report)]
    try:
        subprocess.run(command, capture_output=True, timeout=AUDIT_S, check=False)
        dependencies = json.loads(report.read_bytes())["dependencies"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return []
    # A mirror without the service answers that it knows no package, and pip-audit calls that a success.
    return [package for package in dependencies if "vulns" in package]


def told(packages: list[dict[str, Any]]) -> int:
    """Prints what is known of the packages; 1 where there is a vulnerability."""
    found = [(package, known) for package in packages for known in package["vulns"]]
    for package, known in found:
        fixed = ", ".join(known.get("fix_versions", [])) or "no release yet"
        print(f"{package['name']} {package['version']}: {known['id']}, mended in {fixed}")
    print(f"audit: {len(packages)} packages, {len(found)} known vulnerabilities")
    return bool(found)


def skipped(reason: str) -> int:
    print(f"audit: skipped, {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
