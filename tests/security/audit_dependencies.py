"""`make audit-dependencies`: installed packages against the advisories of the Python package index, by pip-audit.

Exit codes: 0 no package has a known vulnerability; 1 one has; 77 pip-audit or its data base is out of reach.
"""

import json
import subprocess
import sys
import sysconfig
from typing import Any

SKIPPED = 77  # as automake's tests say it
_SECONDS = 600


def main() -> int:
    try:
        report = _report()
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"Not audited: pip-audit gave no report ({error}). It needs the internet: pip install pip-audit")
        return SKIPPED
    code, text = judge(report["dependencies"])
    print(text)
    return code


def judge(packages: list[dict[str, Any]]) -> tuple[int, str]:
    """Exit code and text for pip-audit's list of packages."""
    audited = [package for package in packages if "skip_reason" not in package]
    if len(audited) * 2 < len(packages) or not audited:
        return SKIPPED, f"Not audited: the data base told nothing of {len(packages) - len(audited)} packages."
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, fixed in {_listed(found['fix_versions'])}"
        for package in audited
        for found in package["vulns"]
    ]
    skipped = f", {len(packages) - len(audited)} unknown to the index" if len(audited) < len(packages) else ""
    return bool(lines), "\n".join([*lines, f"{len(audited)} packages audited{skipped}, {len(lines)} vulnerabilities."])


def _listed(versions: list[str]) -> str:
    return ", ".join(versions) or "none yet"


def _report() -> dict[str, Any]:
    site = sysconfig.get_paths()["purelib"]
    command = [sys.executable, "-m", "pip_audit", "--path", site, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    sys.exit(main())
