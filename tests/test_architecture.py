"""The packages form one order, from the nouns to the command line: a module imports only from its own package and from those before."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import gradsentry

ROOT = Path(gradsentry.__file__).parent
GUIDE = ROOT.parents[1] / "docs" / "architecture.md"

ORDER = (
    *("_version", "errors", "escape", "guard", "types", "config", "schema", "spectrum", "data", "tokens", "model", "sides", "scorer"),
    *("verdict", "run", "report", "result", "api", "review", "integrations", "bench", "demo", "cli", "__main__", "scale", "columns"),
)
"""Packages and top-level modules; the last two are deprecated names."""


def imports(path: Path) -> set[str]:
    """Dotted names below `gradsentry` that a file imports anywhere, also inside functions and for type checkers."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("gradsentry.") for name in found if name.startswith("gradsentry.")}


def modules() -> dict[str, Path]:
    """Dotted name below `gradsentry` -> file."""
    files = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def resolved(name: str, known: dict[str, Path]) -> str | None:
    """The module that an imported name is, or in which it is defined."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports. Importing a name from a package counts as importing its ``__init__``."""
    known = modules()
    return {name: {target for found in imports(path) if (target := resolved(found, known))} - {name} for name, path in known.items()}


def test_a_module_imports_only_from_packages_before_its_own() -> None:
    place = {package: i for i, package in enumerate(ORDER)}
    against = [
        f"{name} imports {target}"
        for name, targets in graph().items()
        for target in sorted(targets)
        if place[target.partition(".")[0]] > place[name.partition(".")[0]]
    ]
    assert not against


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_the_order_names_every_package_and_the_guide_describes_each() -> None:
    assert {name.partition(".")[0] for name in modules()} == set(ORDER)
    guide = GUIDE.read_text(encoding="utf-8")
    assert [package for package in ORDER[1:-3] if f"`{package}" not in guide] == []
