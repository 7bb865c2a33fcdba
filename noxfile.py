"""The versions of Python and the distributions: `nox -s tests-3.12`, `runtime-3.13`, `resolve`, `package`.

An interpreter that is not on this machine is skipped.
"""

from __future__ import annotations

from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("", "[train]")
WITHOUT_WHEEL = "face_recognition_models>=0.3"  # published as source alone
RUNTIME = (  # tests that need no PyTorch
    "tests/test_without_torch.py", "tests/test_files.py", "tests/test_names.py", "tests/test_input_spec.py",
    "tests/test_onnx_import.py", "tests/docker", "tests/faces/test_detectors.py", "tests/gallery/test_file_faults.py",
    "tests/images/test_files.py", "tests/serve/test_engine.py", "tests/serve/test_guard.py",
    "tests/serve/test_settings.py", "tests/video/test_frames.py",
)  # fmt: skip
nox.options.sessions = ["tests", "package"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the default tests."""
    session.install("--editable", ".[train,onnx,data]", "--group", "dev")
    wanted = session.posargs or ["-m", "not slow and not realdata and not gpu and not network"]
    session.run(
        "python",
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        *wanted,
        env={"OMP_NUM_THREADS": "1"},
    )


@nox.session(python=PYTHONS)
def runtime(session: nox.Session) -> None:
    """Install the wheel without PyTorch, and run what uses models: the commands, the server, galleries, films."""
    session.install(".[client,data,frames,heic,postgres,video]", "pytest", "hypothesis")
    session.run("python", "-m", "pytest", *(session.posargs or RUNTIME), env={"OMP_NUM_THREADS": "1"})


@nox.session
def package(session: nox.Session) -> None:
    """Build the wheel and the source distribution, and check them."""
    session.install("hatchling", "twine", "check-wheel-contents")
    session.run("python", "-m", "hatchling", "build", "-d", "build/dist")
    files = [str(path) for path in sorted(Path("build/dist").iterdir())]
    session.run("twine", "check", "--strict", *files)
    session.run("check-wheel-contents", *(file for file in files if file.endswith(".whl")))


@nox.session
def resolve(session: nox.Session) -> None:
    """Find versions of every dependency for each Python, without installing them."""
    package(session)
    wheel = next(Path("build/dist").glob("*.whl")).resolve()
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "build/wheels", WITHOUT_WHEEL)
    for python in PYTHONS:
        for extra in EXTRAS:
            session.run(
                "python", "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
                "--target", "build/none", "--only-binary=:all:",
                "--find-links", "build/wheels", "--python-version", python, f"facewright{extra} @ {wheel.as_uri()}",
            )  # fmt: skip
