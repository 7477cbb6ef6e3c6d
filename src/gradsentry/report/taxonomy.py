"""What the security lists of others call poisoned training data."""

from __future__ import annotations

TAXONOMIES: dict[str, dict[str, str]] = {
    "OWASP Top 10 for LLM Applications": {"LLM05:2026": "", "LLM04:2025": "Data and Model Poisoning"},
    "MITRE ATLAS": {"AML.T0020": "Poison Training Data", "AML.T0115.000": ""},
    "NIST AI 100-2": {"NISTAML.023": "Backdoor Poisoning"},
}
"""List -> id -> the name that it has there, where we know it. LLM04:2025 is the earlier number of LLM05:2026."""


def taxonomy() -> list[dict[str, str]]:
    """The ids for ``report.json``."""
    return [{"list": name, "id": number} for name, ids in TAXONOMIES.items() for number in ids]
