"""Exit 0 if the server answers /healthz, 1 otherwise. Environment: FACEWRIGHT_PORT (8000), FACEWRIGHT_TOKEN_FILE."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> int:
    """Ask the server on this machine's own address, with the token where there is one."""
    token_file = Path(os.environ.get("FACEWRIGHT_TOKEN_FILE", "/run/secrets/facewright_token"))
    token = token_file.read_text().strip() if token_file.is_file() else os.environ.get("FACEWRIGHT_TOKEN")
    port = os.environ.get("FACEWRIGHT_PORT", "8000")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/healthz")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError) as error:
        print(f"unhealthy: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
