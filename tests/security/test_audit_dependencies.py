"""The audit of dependencies fails for a known vulnerability, and says when it could not look."""

from tests.security.audit_dependencies import SKIPPED, judge

SOUND = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "not found"}
VULNERABLE = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}


def test_a_vulnerability_fails_with_its_remedy() -> None:
    code, text = judge([SOUND, VULNERABLE])
    assert code == 1
    assert "c 2: PYSEC-1, fixed in 3" in text


def test_sound_packages_pass() -> None:
    assert judge([SOUND, SOUND, UNKNOWN]) == (0, "2 packages audited, 1 unknown to the index, 0 vulnerabilities.")


def test_a_data_base_out_of_reach_is_no_pass() -> None:
    assert judge([UNKNOWN, UNKNOWN])[0] == SKIPPED
    assert judge([])[0] == SKIPPED
