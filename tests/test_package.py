"""Importing does nothing; the public names load when they are used; the wheel holds what it must."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import facewright
from facewright.errors import EXTRAS

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(("facewright", *path.relative_to(ROOT / "src" / "facewright").with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in (ROOT / "src" / "facewright").rglob("*.py")
    if path.name != "__main__.py"
)

# Imports every module and says what that changed: the random generators, the number of threads, the cache folder.
WATCH = """
import importlib, os, pickle, random, sys
import numpy, sklearn, torch  # scikit-learn sets two variables of OpenMP
def state():
    return (random.getstate(), numpy.random.get_state()[1].tobytes(), torch.initial_seed(),
            torch.get_rng_state().numpy().tobytes(), torch.get_num_threads(), torch.cuda.is_initialized(),
            torch.is_grad_enabled(), os.getcwd(), dict(os.environ))
before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
names = "random numpy torch-seed torch-state threads cuda grad folder environment".split()
print([name for name, a, b in zip(names, before, state()) if a != b])
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    "code",
    [
        "import facewright",
        "import facewright.cli.main",
        "from facewright.cli.main import main; main(['--help'])",
        "from facewright.cli.main import main; main(['train', '--help'])",
    ],
)
def test_torch_is_not_loaded(code: str) -> None:
    heavy = "{'torch', 'matplotlib', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)"
    done = run_python(f"{code}\nimport sys\nsys.exit(str({heavy}) if {heavy} else 0)")
    assert done.returncode == 0, done.stderr


def test_importing_does_nothing() -> None:
    done = run_python(WATCH, *MODULES)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert done.stderr == ""


@pytest.mark.parametrize("name", facewright.__all__)
def test_a_public_name_loads(name: str) -> None:
    assert callable(getattr(facewright, name))
    assert name in dir(facewright)


@pytest.mark.parametrize("package", ["", ".recognition"])
def test_no_module_hides_a_lazy_name(package: str) -> None:
    module = importlib.import_module(f"facewright{package}")
    assert not set(module.__all__) & {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        facewright.trian  # noqa: B018


def test_functions_of_the_workflows_have_moved_and_still_come() -> None:
    from facewright import workflows

    with pytest.warns(FutureWarning, match="facewright.train"):
        assert workflows.train is facewright.train
    with pytest.raises(AttributeError):
        workflows.anything  # noqa: B018


def test_the_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert facewright.__version__ == project["version"] == importlib.metadata.version("facewright")


@pytest.mark.slow
def test_the_distributions_pass_the_checks_of_the_index(tmp_path: Path) -> None:
    """As `nox -s package`, with the tools of this environment."""
    for tool in ("twine", "check_wheel_contents"):
        pytest.importorskip(tool, reason="needs the dependency group dev")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    assert subprocess.run(build, cwd=ROOT, capture_output=True, check=False).returncode == 0
    files = sorted(str(path) for path in tmp_path.iterdir())
    assert [Path(file).suffix for file in files] == [".whl", ".gz"]
    for command in (["twine", "check", "--strict", *files], ["check_wheel_contents", files[0]]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_metadata_says_agrees_with_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [line.rpartition(" ")[2] for line in project["classifiers"] if ":: Python :: 3." in line]
    assert versions == ["3.11", "3.12", "3.13", "3.14"] and project["requires-python"] == f">={versions[0]}"
    listed = (ROOT / "noxfile.py").read_text()
    assert all(f'"{version}"' in listed for version in versions)
    assert set(EXTRAS) <= set(project["optional-dependencies"])


def test_the_wheel_holds_all_that_is_no_code(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "-w", str(tmp_path), str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("facewright-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "facewright/py.typed" in expected
    assert any(name.startswith("facewright/training/recipes/") for name in expected)
    assert any(name.startswith("facewright/report/templates/") for name in expected)
    assert expected <= held
    assert any(name.endswith("licenses/LICENSE") for name in held)
