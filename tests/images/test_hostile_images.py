"""Mutated images end in pixels or in BadImage: never in a crash, a hang or another exception (fault 6).

The work is done by this very file, run as a program in a child process with little memory, so that a crash of the
decoder would be seen as the child's death and not take the tests with it.
"""

import io
import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from facewright import images
from facewright.errors import BadImage

pillow_heif.register_heif_opener()  # to write such files

MEMORY = 3 * 2**30  # address space; a few hundred megabytes of it are libraries
KINDS = [
    ("JPEG", {"quality": 90}),
    ("JPEG", {"quality": 90, "progressive": True}),
    ("PNG", {}),
    ("WebP", {"quality": 90}),
    ("WebP", {"lossless": True}),
    ("BMP", {}),
    ("GIF", {}),
    ("PPM", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg"}),
    ("AVIF", {"quality": 60}),
    ("HEIF", {"quality": 60}),
]


def originals() -> list[bytes]:
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[274], exif[271] = 6, "a maker"
    files = []
    for kind, options in KINDS:
        buffer = io.BytesIO()
        extra = {"exif": exif.tobytes()} if kind in ("JPEG", "PNG", "WebP", "TIFF") else {}
        image.save(buffer, kind, **options, **extra)
        files.append(buffer.getvalue())
    buffer = io.BytesIO()
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64).save(buffer, "PNG")
    return [*files, buffer.getvalue()]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bytes overwritten (more often near the head), cut out, doubled, or the end cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        reach = len(changed) if rng.random() < 0.5 else min(len(changed), 120)
        at = int(rng.integers(0, max(reach, 1)))
        kind = rng.random()
        if kind < 0.5:
            changed[at : at + 1] = bytes([int(rng.integers(256))])
        elif kind < 0.7:
            changed[at : at + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"][
                int(rng.integers(4))
            ]
        elif kind < 0.8:
            del changed[at : at + int(rng.integers(1, 20))]
        elif kind < 0.9:
            changed[at:at] = changed[at : at + int(rng.integers(1, 40))]
        elif kind < 0.93:
            del changed[at:]
    return bytes(changed)


def is_refused(data: bytes, at_least: int | None) -> bool:
    """Whether the image is refused; anything but pixels and BadImage ends the process."""
    try:
        image = images.read(data, name="mutant", at_least=at_least)
    except BadImage as error:
        assert error.path == "mutant"
        assert error.reason
        return True
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    return False


def decode_all(count: int, seed: int) -> dict[str, object]:
    """Decode `count` mutations; what became of them."""
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = np.random.default_rng(seed)
    files = originals()
    for data in files:
        assert images.read(data).shape == (32, 32, 3)
    refused = 0
    with Path("last").open("wb", buffering=0) as last:  # what killed the process, should it die
        for number in range(count):
            data = mutate(files[number % len(files)], rng)
            last.seek(0)
            last.truncate()
            last.write(data)
            refused += is_refused(data, None if number % 3 else 8)
    return {"count": count, "refused": refused}


def run_child(count: int, seed: int, folder: Path) -> dict[str, object]:
    command = [sys.executable, "-X", "faulthandler", __file__, str(count), str(seed)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"mutation kept in {folder / 'last'}\n{done.stderr[-3000:]}"
    # libtiff tells its errors to the standard error on its own; Python must have nothing to say there.
    assert not [word for word in ("Warning", "Traceback", "Fatal", "Exception") if word in done.stderr], done.stderr
    return json.loads(done.stdout)


def test_mutated_images_are_errors_at_worst(tmp_path):
    found = run_child(1_500, 0, tmp_path)
    assert found["count"] == 1_500
    assert found["refused"] > 300  # the mutations do bite


@pytest.mark.slow
def test_ten_thousand_mutated_images_are_errors_at_worst(tmp_path):
    found = run_child(12_000, 1, tmp_path)
    assert found["refused"] > 2_400


if __name__ == "__main__":
    print(json.dumps(decode_all(int(sys.argv[1]), int(sys.argv[2]))))
