"""Looks up every installed package in a public database of known vulnerabilities, if one can be reached.

python .ci/audit.py SITE_PACKAGES

Exits with 1 if a package has a known vulnerability. If pip-audit or its services cannot be reached, it says so in one
line and exits with 0. pip-audit gets an environment of its own, so that its dependencies are not among those audited.
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
            audit = install_pip_audit(Path(folder) / "venv")
        except (OSError, subprocess.SubprocessError) as error:
            return report_skip(f"pip-audit cannot be installed ({type(error).__name__})")
        for service in SERVICES:
            packages = look_up(audit, site_packages, service, Path(folder) / f"{service}.json")
            if packages:
                return report_findings(packages)
    return report_skip("neither PyPI nor OSV knows any package")


def install_pip_audit(environment: Path) -> Path:
    """Creates an environment with pip-audit in it; returns the program."""
    venv.create(environment, with_pip=True)
    command = [str(environment / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "pip-audit"]
    subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=True)
    return environment / "bin/pip-audit"


def look_up(audit: Path, site_packages: str, service: str, report: Path) -> list[dict[str, Any]]:
    """The packages that the service knows; none if it does not answer."""
    command = [str(audit), "--path", site_packages, "--skip-editable", "--progress-spinner", "off", "--timeout", "5"]
    command += ["--vulnerability-service", service, "--format", "json", "--output", str(report)]
    try:
        subprocess.run(command, capture_output=True, timeout=AUDIT_S, check=False)
        dependencies = json.loads(report.read_bytes())["dependencies"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return []
    # A mirror without the service answers that it knows no package, and pip-audit calls that a success.
    return [package for package in dependencies if "vulns" in package]


def report_findings(packages: list[dict[str, Any]]) -> int:
    """Prints each vulnerability; returns 1 if there is one."""
    found = [(package, vulnerability) for package in packages for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no release yet"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    print(f"audit: packages: {len(packages)}, known vulnerabilities: {len(found)}")
    return bool(found)


def report_skip(reason: str) -> int:
    """Says why nothing was audited; that is not a failure."""
    print(f"audit: skipped, {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
