"""Public weights out of files: what fits is loaded whole, and everything else is a sentence and no change."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import safetensors.torch
import torch
from torch import Tensor

from facewright import bundle
from facewright.errors import UnknownName, UsageError, WeightsError
from facewright.input_spec import InputSpec
from facewright.models import catalog, conversion, released
from facewright.models.conversion import read_weights
from facewright.models.weights import PretrainedWeights, get_weights, load_into, open_weights, parse_model

NAME, CLASSES = "mobilenet_v1_x0_25", 7
Change = Callable[[dict[str, Tensor]], None]


def network(classes: int = CLASSES, name: str = NAME) -> catalog.Model:
    return catalog.create_model(name, classes, stem="imagenet")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return network().state_dict()


def written(path: Path, state: dict[str, Tensor], change: Change | None = None) -> Path:
    copy = {name: tensor.clone() for name, tensor in state.items()}
    if change is not None:
        change(copy)
    path.write_bytes(safetensors.torch.save(copy))
    return path


def equal(model: catalog.Model, state: dict[str, Tensor], *, but: str = "nothing") -> bool:
    own = model.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in state.items() if not name.startswith(but))


def test_a_file_is_opened_and_loaded(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = written(tmp_path / "net.safetensors", state)
    loaded = open_weights(NAME, file)
    assert (loaded.architecture, loaded.name, loaded.classes) == (NAME, "net.safetensors", CLASSES)
    assert (loaded.stem, loaded.licence) == ("imagenet", "unknown")
    assert loaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert loaded.spec == InputSpec(224, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = network()
    assert load_into(model, loaded) == ()
    assert equal(model, state)


def test_a_path_may_come_as_text(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = written(tmp_path / "net.safetensors", state)
    assert open_weights(NAME, str(file)).title == f"{NAME}@net.safetensors"


def test_a_classifier_of_another_size_stays_fresh_and_it_is_said(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = network(3)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("classifier.")}
    said = load_into(model, open_weights(NAME, written(tmp_path / "net.safetensors", state)))
    (message,) = said
    assert message.startswith(f"{NAME}@net.safetensors") and "7 classes" in message and "3-class" in message
    assert equal(model, state, but="classifier.")
    assert equal(model, fresh)


def test_a_file_without_a_classifier_leaves_the_fresh_one(tmp_path: Path, state: dict[str, Tensor]) -> None:
    def behead(tensors: dict[str, Tensor]) -> None:
        del tensors["classifier.weight"], tensors["classifier.bias"]

    loaded = open_weights(NAME, written(tmp_path / "net.safetensors", state, behead))
    assert loaded.classes == 0
    (message,) = load_into(network(), loaded)
    assert message.startswith(f"{NAME}@net.safetensors") and "7-class" in message


def test_a_head_of_several_layers_stays(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = network()
    head = torch.nn.Sequential(torch.nn.Linear(256, 16), torch.nn.Linear(16, CLASSES))
    model.set_submodule("classifier", head)
    said = load_into(model, open_weights(NAME, written(tmp_path / "net.safetensors", state)))
    (message,) = said
    assert message.startswith(f"{NAME}@net.safetensors") and "7 classes" in message
    assert equal(model, state, but="classifier.")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_points_become_float32(tmp_path: Path, state: dict[str, Tensor], kind: torch.dtype) -> None:
    def cast(tensors: dict[str, Tensor]) -> None:
        tensors |= {name: tensor.to(kind) for name, tensor in tensors.items() if tensor.is_floating_point()}

    loaded = open_weights(NAME, written(tmp_path / "net.safetensors", state, cast))
    assert {tensor.dtype for tensor in loaded.state.values()} == {torch.float32, torch.int64}
    close = torch.allclose(loaded.state["conv_stem.weight"], state["conv_stem.weight"], rtol=0.01)
    assert close and load_into(network(), loaded) == ()


def spoil(name: str, value: float) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name].view(-1)[-1] = value

    return change


def put(name: str, tensor: Tensor) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensor

    return change


def drop(name: str) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        del tensors[name]

    return change


# what was done to the tensors -> what the refusal says
BAD_TENSORS: dict[str, tuple[Change, str]] = {
    "NaN": (spoil("conv_stem.weight", float("nan")), "conv_stem.weight holds NaN or infinity"),
    "infinity": (spoil("bn1.running_var", float("inf")), "bn1.running_var holds NaN or infinity"),
    "beyond float32": (put("bn1.bias", torch.full((8,), 1e300, dtype=torch.float64)), "bn1.bias holds NaN or infinity"),
    "integers": (put("bn1.bias", torch.ones(8, dtype=torch.int8)), "bn1.bias is int8; expected float32"),
    "one missing": (drop("blocks.4.1.bn2.bias"), "1 missing: blocks.4.1.bn2.bias"),
    "one too many": (put("extra.weight", torch.ones(2)), "1 unexpected: extra.weight"),
    "another shape": (put("bn1.bias", torch.ones(9)), "1 of another shape: bn1.bias is 9, not 8"),
    "turned matrix": (put("blocks.0.0.conv_pw.weight", torch.ones(8, 16)), "blocks.0.0.conv_pw.weight is 8×16"),
    "classifier of another width": (put("classifier.weight", torch.ones(7, 9)), "classifier.weight is 7×9, not 7×256"),
    "classifier without a weight": (drop("classifier.weight"), "1 missing: classifier.weight"),
    "classifier that is a number": (put("classifier.weight", torch.tensor(1.0)), "classifier.weight is a number"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensors_are_refused(tmp_path: Path, state: dict[str, Tensor], name: str) -> None:
    change, reason = BAD_TENSORS[name]
    file = written(tmp_path / "net.safetensors", state, change)
    with pytest.raises(WeightsError) as caught:
        open_weights(NAME, file)
    assert reason in str(caught.value) and str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def as_pickle(path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, path)


def as_old_pickle(path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def as_half(path: Path, state: dict[str, Tensor]) -> None:
    written(path, state)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_stub(path: Path, state: dict[str, Tensor]) -> None:
    written(path, state)
    path.write_bytes(path.read_bytes()[:500])


def as_header(header: object, beyond: int = 0, data: int = 0) -> Callable[[Path, dict[str, Tensor]], None]:
    def write(path: Path, state: dict[str, Tensor]) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text) + beyond) + text + bytes(data))

    return write


def entry(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


# what is in the file called net.safetensors -> what the refusal says
BAD_FILES: dict[str, tuple[Callable[[Path, dict[str, Tensor]], object], str]] = {
    "missing": (lambda path, state: None, "no such file"),
    "a folder": (lambda path, state: path.mkdir(), "no such file"),
    "empty": (lambda path, state: path.write_bytes(b""), "empty"),
    "a text": (lambda path, state: path.write_text("weights of mobilenet"), "no safetensors file"),
    "a pickle": (as_pickle, "facewright weights convert"),
    "an old pickle": (as_old_pickle, "facewright weights convert"),
    "half of it": (as_half, "cut short or damaged"),
    "only a beginning": (as_stub, "cut short"),
    "a header of terabytes": (as_header(b"{}", 2**40), "no safetensors file"),
    "a header that is no JSON": (as_header(b"{" + b"x" * 50), "cut short or damaged"),
    "a header with a list": (as_header({"a": [1, 2]}), "cut short or damaged"),
    "places beyond the end": (as_header({"a": entry([4], 0, 16)}), "cut short or damaged"),
    "places that overflow": (as_header({"a": entry([2**62, 2**62], 0, 16)}), "cut short or damaged"),
    "a deep header": (as_header(b'{"a":' * 5000), "cut short or damaged"),
    "no tensors": (as_header({}), "missing"),
    "an overlap": (as_header({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, data=6), "cut short or damaged"),
    "a hole": (as_header({"a": entry([1], 4, 8)}, data=8), "cut short or damaged"),
    "something behind": (as_header({"a": entry([1], 0, 4)}, data=9), "cut short or damaged"),
    "a kind that is none": (as_header({"a": {**entry([1], 0, 4), "dtype": "P8"}}, data=4), "cut short or damaged"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path: Path, state: dict[str, Tensor], name: str) -> None:
    write, reason = BAD_FILES[name]
    file = tmp_path / "net.safetensors"
    write(file, state)
    with pytest.raises(WeightsError, match=re.escape(reason)):
        open_weights(NAME, file)


def test_no_change_of_a_byte_is_anything_but_read_or_refused(tmp_path: Path) -> None:
    tiny = {"a.weight": torch.ones(2, 3), "a.num_batches_tracked": torch.tensor(4)}
    whole = safetensors.torch.save(tiny, {"facewright": "{}"})
    random = Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(whole))] = random.randrange(256)
        file = tmp_path / "net.safetensors"
        file.write_bytes(damaged[: random.choice([len(whole), random.randrange(len(whole))])])
        try:
            read_weights(file)
        except WeightsError:
            refused += 1
    assert 200 < refused < 400


def test_other_limits(tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "net.safetensors", state)
    monkeypatch.setattr(conversion, "MOST_TENSORS", 5)
    with pytest.raises(WeightsError, match="tensors; the limit is 5"):
        open_weights(NAME, file)
    monkeypatch.setattr(conversion, "MOST_BYTES", 1000)
    with pytest.raises(WeightsError, match="bytes; the limit is 1,000"):
        open_weights(NAME, file)


def test_weights_of_another_architecture_list_what_differs(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = written(tmp_path / "net.safetensors", state)
    with pytest.raises(WeightsError, match=r"not weights of resnet18: \d+ missing: .* and \d+ more; \d+ unexpected"):
        open_weights("resnet18", file)
    with pytest.raises(WeightsError, match="of another shape"):
        open_weights("mobilenet_v1", file)


# network that is loaded into -> why not
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: catalog.create_model("mobilenet_v1_x0_5", CLASSES), "of another shape"),
        (lambda: catalog.create_model("squeezenet1_1", CLASSES), "unexpected"),
    ],
)
def test_nothing_is_half_loaded(
    tmp_path: Path, state: dict[str, Tensor], model: Callable[[], catalog.Model], reason: str
) -> None:
    loaded = open_weights(NAME, written(tmp_path / "net.safetensors", state))
    other = model()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match=reason):
        load_into(other, loaded)
    assert equal(other, before)


def test_another_stem_is_named(tmp_path: Path) -> None:
    weights_of = catalog.create_model("resnet18", 2, stem="imagenet").state_dict()
    loaded = open_weights("resnet18", written(tmp_path / "net.safetensors", weights_of))
    load_into(catalog.create_model("resnet18", 2, stem="coarse"), loaded)  # the same shapes
    with pytest.raises(WeightsError, match="these weights want the imagenet stem"):
        load_into(catalog.create_model("resnet18", 2, stem="small"), loaded)


SPEC = InputSpec(64, 64, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def bundled(path: Path, model: catalog.Model, stem: str = "small") -> Path:
    names = tuple(f"c{number}" for number in range(CLASSES))
    bundle.save(path, bundle.Bundle(NAME, stem, names, SPEC, model.state_dict()))
    return path


def test_a_bundle_of_the_same_architecture_is_weights(tmp_path: Path) -> None:
    model = network()
    loaded = open_weights(NAME, bundled(tmp_path / "run.safetensors", model))
    assert (loaded.spec, loaded.stem, loaded.classes) == (SPEC, "small", CLASSES)
    assert equal(model, dict(loaded.state))
    with pytest.raises(WeightsError, match=f"a bundle of {NAME}, not of resnet18"):
        open_weights("resnet18", tmp_path / "run.safetensors")


@pytest.mark.parametrize(
    "head",
    [
        torch.nn.Sequential(torch.nn.Linear(256, 16), torch.nn.Linear(16, CLASSES)),
        torch.nn.Linear(256, CLASSES, bias=False),
    ],
)
def test_a_bundle_with_another_head_gives_its_body(tmp_path: Path, head: torch.nn.Module) -> None:
    model = network()
    model.set_submodule("classifier", head)
    loaded = open_weights(NAME, bundled(tmp_path / "run.safetensors", model))
    assert loaded.classes == 0 and not any(name.startswith("classifier") for name in loaded.state)


# metadata that is damaged
@pytest.mark.parametrize(
    "metadata",
    ["no json", "[]", "{}", '{"architecture": 5, "stem": "small", "classes": [], "input": {}}']
    + [json.dumps({"architecture": NAME, "stem": stem, "classes": ["a"], "input": {}}) for stem in ("small", "odd")],
)
def test_a_damaged_bundle_is_refused(tmp_path: Path, state: dict[str, Tensor], metadata: str) -> None:
    file = tmp_path / "run.safetensors"
    file.write_bytes(safetensors.torch.save(state, {"facewright": metadata}))
    with pytest.raises(WeightsError, match=r"metadata|input description"):
        open_weights(NAME, file)


# typed -> meant
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("resnet18", ("resnet18", None)),
        ("resnet18@none", ("resnet18", None)),
        ("mobilenet_v2@imagenet", ("mobilenet_v2", "imagenet")),
        ("mobilefacenet@a/b@c.safetensors", ("mobilefacenet", "a/b@c.safetensors")),
        ("resnet18@", UsageError),
        ("resnet19@imagenet", UnknownName),
        ("@imagenet", UnknownName),
    ],
)
def test_a_model_with_weights_by_name(text: str, meant: object) -> None:
    if isinstance(meant, type):
        with pytest.raises(meant):
            parse_model(text)
    else:
        assert parse_model(text) == meant


def test_an_unknown_name_is_told_from_a_missing_file() -> None:
    with pytest.raises(UnknownName, match="did you mean 'imagenet'"):
        open_weights("resnet18", "imagnet")
    with pytest.raises(WeightsError, match="no such file"):
        open_weights("resnet18", "imagnet.safetensors")
    with pytest.raises(UnknownName, match="unknown weights of alexnet 'imagenet'"):
        open_weights("alexnet", "imagenet")


def offered(path: Path, state: dict[str, Tensor]) -> released.Weights:
    """A row for safetensors that lie in the cache already."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = replace(released.expected_input(NAME), height=160)
    source = "https://nowhere.invalid/model.safetensors"
    return released.Weights(NAME, "test", source, sha256, "CC0-1.0", spec, "none", "facewright", CLASSES)


def test_released_weights_come_from_the_cache_checked(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights" / f"{NAME}@test.safetensors"
    file.parent.mkdir()
    row = offered(written(file, state), state)
    monkeypatch.setattr(released, "RELEASED", (row,))
    loaded = open_weights(NAME, "test", cache=tmp_path)
    assert (loaded.name, loaded.licence, loaded.spec, loaded.sha256) == ("test", "CC0-1.0", row.spec, row.sha256)
    assert load_into(network(), loaded) == ()
    written(file, state, spoil("bn1.bias", 5.0))
    with pytest.raises(WeightsError, match="wrong checksum"):
        open_weights(NAME, "test", cache=tmp_path)


def test_offline_names_the_file_the_address_and_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path))
    for proxy in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    row = replace(released.find("resnet18", "imagenet"), source="https://127.0.0.1:9/model.safetensors")
    with pytest.raises(WeightsError) as caught:
        get_weights(row)
    place = tmp_path / "weights" / "resnet18@imagenet.safetensors"
    for words in ("resnet18@imagenet.safetensors", row.source, str(place)):
        assert words in str(caught.value)


def test_a_pickle_is_not_fetched_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="facewright weights get resnet101@imagenet"):
        open_weights("resnet101", "imagenet", cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_pickle_that_was_got_is_safetensors_from_then_on(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(released.find("resnet101", "imagenet"), architecture=NAME, classes=CLASSES)
    by_hand = tmp_path / "weights" / row.file_name
    by_hand.parent.mkdir()
    torch.save({"state_dict": state}, by_hand)
    row = replace(row, sha256=hashlib.sha256(by_hand.read_bytes()).hexdigest()[:8])
    monkeypatch.setattr(released, "RELEASED", (row,))
    file = get_weights(row, cache=tmp_path)
    assert not by_hand.exists() and file == released.cached_file(row, tmp_path)
    assert load_into(network(), open_weights(NAME, "imagenet", cache=tmp_path)) == ()
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(WeightsError, match=r"wrong checksum.*remove it and get it again"):
        open_weights(NAME, "imagenet", cache=tmp_path)
    file.unlink()
    torch.save({"state_dict": state}, by_hand)
    note = file.with_name(f"{file.name}.sha256")
    note.write_text("0" * 64)  # of another version's conversion
    assert get_weights(row, cache=tmp_path) == file and note.read_text().strip() != "0" * 64


def test_whose_naming_it_was_decides_what_a_vit_expects(tmp_path: Path) -> None:
    state = catalog.create_model("vit_ti_16", 2).state_dict()
    assert open_weights("vit_ti_16", written(tmp_path / "timm.safetensors", state)).spec.mean == (0.5, 0.5, 0.5)
    back = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "head.": "heads.head.",
        "norm.": "encoder.ln.",
    }
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if block is not None:
            rest = block[2].replace("norm", "ln_").replace("attn.qkv.", "self_attention.in_proj_")
            rest = rest.replace("attn.proj", "self_attention.out_proj").replace("fc1", "0").replace("fc2", "3")
            name = f"encoder.layers.encoder_layer_{block[1]}.{rest}"
        elif name.startswith("patch_embed.proj"):
            name = name.replace("patch_embed.proj", "conv_proj")
        else:
            short = next(key for key in back if name.startswith(key))
            name = back[short] + name.removeprefix(short)
        theirs[name] = tensor
    file = written(tmp_path / "torchvision.safetensors", theirs)
    assert open_weights("vit_ti_16", file).spec.mean == (0.485, 0.456, 0.406)
    conversion.convert(file, "vit_ti_16", tmp_path / "ours.safetensors")  # under our names, and still of their origin
    converted: PretrainedWeights = open_weights("vit_ti_16", tmp_path / "ours.safetensors")
    assert converted.spec.mean == (0.485, 0.456, 0.406)
    assert all(torch.equal(converted.state[name], tensor) for name, tensor in state.items())
