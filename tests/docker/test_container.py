"""The container's entrypoint and health check, run as plain processes; no container engine is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"


def run_entrypoint(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the entrypoint with a `facewright` that prints its arguments and the two secrets."""
    fake = folder / "facewright"
    fake.write_text('#!/bin/sh\necho "$*|${FACEWRIGHT_TOKEN:-none}|${PGPASSWORD:-none}"\n')
    fake.chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}"} | environment
    return subprocess.run(
        [DOCKER / "entrypoint.sh", "serve", "--gallery", "a b"], env=variables, capture_output=True, text=True
    )


def test_secrets_are_read_from_files_and_arguments_pass_unchanged(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret $HOME `x`\n")
    (tmp_path / "password").write_text("p'w\n")
    ran = run_entrypoint(
        tmp_path, FACEWRIGHT_TOKEN_FILE=str(tmp_path / "token"), PGPASSWORD_FILE=str(tmp_path / "password")
    )
    assert ran.stdout == "serve --gallery a b|s3cret $HOME `x`|p'w\n"


def test_without_secret_files_the_environment_is_kept(tmp_path: Path) -> None:
    assert run_entrypoint(tmp_path, FACEWRIGHT_TOKEN="given").stdout == "serve --gallery a b|given|none\n"


def test_a_named_secret_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    ran = run_entrypoint(tmp_path, FACEWRIGHT_TOKEN_FILE="/nowhere/token")
    assert ran.returncode == 1
    assert "/nowhere/token" in ran.stderr
    assert ran.stdout == ""


class Health(BaseHTTPRequestHandler):
    """Answers 200 to a request with the right token, 401 to others."""

    def do_GET(self) -> None:
        right = self.path == "/healthz" and self.headers.get("Authorization") == "Bearer right"
        self.send_response(200 if right else 401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def health(port: int, token: Path) -> int:
    variables = os.environ | {"FACEWRIGHT_PORT": str(port), "FACEWRIGHT_TOKEN_FILE": str(token)}
    return subprocess.run([sys.executable, DOCKER / "healthcheck.py"], env=variables, capture_output=True).returncode


@pytest.mark.parametrize(("token", "status"), [("right\n", 0), ("wrong", 1)])
def test_the_health_check_asks_with_the_token(tmp_path: Path, port: int, token: str, status: int) -> None:
    (tmp_path / "token").write_text(token)
    assert health(port, tmp_path / "token") == status


def test_a_server_that_is_not_there_is_unhealthy(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right")
    assert health(1, tmp_path / "token") == 1  # nothing listens on port 1
