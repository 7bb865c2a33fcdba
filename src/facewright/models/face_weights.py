"""Public face recognizers and detectors by name: files that are pinned, checked, and whose licence is accepted once.

Every claim of a row has the address that it is from. Only yunet was run here, from a file with the pinned checksum;
the inputs of the others are what the sources say.

<cache>/weights/<name>.onnx         the file
<cache>/weights/<name>.onnx.sha256  its checksum
<cache>/licences.json               the licences that were accepted

Sources of inputs: OpenCV's `FaceRecognizerSF::feature`; insightface's `arcface_onnx.py`; the READMEs of AdaFace (BGR)
and EdgeFace; all on ArcFace's crops. FaceNet on the boxes of MTCNN with a margin, as facenet-pytorch.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from facewright.errors import WeightsError
from facewright.events import Progress as Told
from facewright.events import download_handler, licence_question
from facewright.files import cache_folder, read_json, write_atomic
from facewright.input_spec import InputSpec
from facewright.models import released
from facewright.models.downloads import MOST_BYTES, Progress, Remote, fetch
from facewright.models.released import HALF, Kind, Weights, cached_file
from facewright.records import Record

RGB = InputSpec(112, 112, HALF, HALF, "rgb", "stretch")  # (x - 127.5) / 127.5
BGR = replace(RGB, colour_order="bgr")
RAW = InputSpec(112, 112, (0, 0, 0), (1 / 255,) * 3, "rgb", "stretch")  # 0 to 255; the graph scales

ZOO = "https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/models"
ZOO_PAGE = "https://github.com/opencv/opencv_zoo/blob/main/models"
UNIFACE = "https://github.com/yakhyo/uniface/releases/download/weights"
PINS = "https://github.com/yakhyo/uniface/blob/d469683dae5d9c9ad68841e0f5f3ba1c7dce2b63/uniface/constants.py"
MODEL_ZOO = "https://github.com/deepinsight/insightface/blob/master/model_zoo/README.md"
ADAFACE = "https://github.com/yakhyo/adaface-onnx/releases/download/weights"
ADAFACE_PIN = (
    "https://github.com/JaaJSoft/workspace/blob/341247fe2f3196509c928b22b5f6db905f553477"
    "/workspace/photos/services/detection/yunet_adaface.py"
)
ADAFACE_SCORES = "https://github.com/mk-minchul/AdaFace/blob/master/README.md"
EDGEFACE = "https://github.com/yakhyo/edgeface-onnx/releases/download/weights"
EDGEFACE_SCORES = "https://github.com/otroshi/edgeface/blob/main/README.md"
EDGEFACE_LICENCE = (
    "https://huggingface.co/subhashhhhhh/lumen-faces-edgeface https://github.com/otroshi/edgeface/blob/main/LICENSE"
)
SCRFD_PIN = (
    "https://github.com/openfotos/openfotos-platform/blob/8263ef9248d72635485b0d7c2dc230b31a8c386f"
    "/docs/session6/benchmark-method.md (det_2.5g.onnx of buffalo_m)"
)
WIDER = "https://huggingface.co/datasets/CUHK-CSE/wider_face"
WEBFACE = "https://github.com/leondgarse/Keras_insightface/issues/133"
AURAFACE = "https://huggingface.co/fal/AuraFace-v1"


def _row(name: str, source: str, sha256: str, pinned_by: str, size: int | None, spec: InputSpec | None) -> Weights:
    """Return a row whose licence, data and score `_insightface`, `_adaface` … or the table fill in."""
    kind: Kind = "detector" if spec is None else "recognizer"
    template = None if spec is None else "arcface"
    return Weights(
        "", name, source, sha256, "", spec, "", classes=0, kind=kind, data="", bytes=size, template=template,
        data_source="", sha256_source=pinned_by,
    )  # fmt: skip


def _insightface(row: Weights, data: str, published: str) -> Weights:
    return replace(
        row, asks=True, licence="non-commercial research only", licence_source=MODEL_ZOO, data=data,
        data_source=f"{MODEL_ZOO} {WIDER}" if row.kind == "detector" else MODEL_ZOO,
        published=f"{published} (InsightFace)", published_source=MODEL_ZOO,
    )  # fmt: skip


def _adaface(row: Weights, data: str, published: str) -> Weights:
    return replace(
        row, asks=True, licence="MIT: the code; for commercial use of the weights, ask MSU Technologies (authors)",
        licence_source="https://github.com/mk-minchul/AdaFace/issues/174",
        data=f"{data}: non-commercial, others report", data_source=f"{ADAFACE_SCORES} {WEBFACE}",
        published=f"{published} on LFW (AdaFace)", published_source=ADAFACE_SCORES,
    )  # fmt: skip


def _edgeface(row: Weights, published: str) -> Weights:
    return replace(
        row, asks=True, licence="CC BY-NC-SA 4.0, copies of the weights say; the code is BSD-3-Clause",
        licence_source=EDGEFACE_LICENCE, data="WebFace260M, subsets: non-commercial, others report",
        data_source=f"https://arxiv.org/abs/2307.01838 {WEBFACE}",
        published=f"{published} on LFW (EdgeFace)", published_source=EDGEFACE_SCORES,
    )  # fmt: skip


SCRFD = "WIDER FACE: CC BY-NC-ND 4.0"
FACE_WEIGHTS: tuple[Weights, ...] = (
    replace(
        _row("sface", f"{ZOO}/face_recognition_sface/face_recognition_sface_2021dec.onnx",
             "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
             "https://huggingface.co/opencv/face_recognition_sface (Git LFS)", 38_696_353, RAW),
        licence="Apache-2.0", licence_source=f"{ZOO_PAGE}/face_recognition_sface",
        data="not said for this file; its paper: CASIA-WebFace, VGGFace2, MS-Celeb-1M",
        data_source="https://github.com/zhongyy/SFace",
        published="99.40 % on LFW (OpenCV Zoo)", published_source=f"{ZOO_PAGE}/face_recognition_sface",
    ),
    replace(
        _row("auraface", f"{AURAFACE}/resolve/main/glintr100.onnx",
             "a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60", f"{AURAFACE} (Git LFS)",
             260_694_151, RGB),
        licence="Apache-2.0", licence_source=AURAFACE,
        data="not named: \"commercially and publicly available data sources\"", data_source=AURAFACE,
        published="below ArcFace (fal)", published_source="https://huggingface.co/blog/isidentical/auraface",
    ),
    _adaface(_row("adaface_ir18", f"{ADAFACE}/adaface_ir_18.onnx",
                  "6b6a35772fb636cdd4fa86520c1a259d0c41472a76f70f802b351837a00d9870", PINS, None, BGR),
             "WebFace4M", "99.53 %"),
    _adaface(_row("adaface_ir50", f"{ADAFACE}/adaface_ir_50.onnx",
                  "9c0ae385d7362323c92d218de598d32e52a9130b78faac6a8a924091aca62c0b",
                  ADAFACE_PIN, None, BGR), "WebFace4M", "99.78 %"),
    _adaface(_row("adaface_ir101", f"{ADAFACE}/adaface_ir_101.onnx",
                  "f2eb07d03de0af560a82e1214df799fec5e09375d43521e2868f9dc387e5a43e", PINS, 260_704_652, BGR),
             "WebFace12M", "99.82 %"),
    _edgeface(_row("edgeface_xs", f"{EDGEFACE}/edgeface_xs_gamma_06.onnx",
                   "9206e2eb13a2761d7b5b76e13016d4b9acd3fa3535a9a09939f3adacd139a5ff", PINS, None, RGB), "99.73 %"),
    _edgeface(_row("edgeface_s", f"{EDGEFACE}/edgeface_s_gamma_05.onnx",
                   "b850767cf791bda585600b5c4c7d7432b2f998ccd862caae34ef1afa967d2e54",
                   PINS, 14_805_514, RGB), "99.78 %"),
    _edgeface(_row("edgeface_base", f"{EDGEFACE}/edgeface_base.onnx",
                   "b56942f072c67385f44734b9458b0ccc4a2226888a113f77e0c802ad0c77b4c3",
                   PINS, None, RGB), "99.83 %"),
    _insightface(_row("w600k_mbf", f"{UNIFACE}/w600k_mbf.onnx",
                      "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f", PINS, 13_616_099, RGB),
                 "WebFace600K: terms not found", "99.70 % on LFW"),
    _insightface(_row("w600k_r50", f"{UNIFACE}/w600k_r50.onnx",
                      "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43", PINS, 174_383_860, RGB),
                 "WebFace600K: terms not found", "99.83 % on LFW"),
    replace(released.find("inception_resnet_v1", "vggface2"), architecture="", name="facenet_vggface2",
            kind="recognizer", template="mtcnn", of="inception_resnet_v1@vggface2"),
    replace(
        _row("yunet", f"{ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx",
             "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
             "https://huggingface.co/opencv/face_detection_yunet (Git LFS)", 232_589, None),
        licence="MIT", licence_source=f"{ZOO_PAGE}/face_detection_yunet",
        data=SCRFD, data_source=f"https://github.com/ShiqiYu/libfacedetection.train {WIDER}",
        published=".884/.866/.750 on WIDER FACE (OpenCV Zoo)", published_source=f"{ZOO_PAGE}/face_detection_yunet",
    ),
    replace(
        _row("retinaface_mv2", f"{UNIFACE}/retinaface_mv2.onnx",
             "3ca44c045651cabeed1193a1fae8946ad1f3a55da8fa74b341feab5a8319f757", PINS, None, None),
        licence="MIT", licence_source="https://github.com/yakhyo/retinaface-pytorch",
        data=SCRFD, data_source=f"https://github.com/yakhyo/retinaface-pytorch {WIDER}",
        published=".917/.910/.866 on WIDER FACE, several scales (yakhyo)",
        published_source="https://github.com/yakhyo/retinaface-pytorch",
    ),
    _insightface(_row("scrfd_500m", f"{UNIFACE}/scrfd_500m_kps.onnx",
                      "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a", PINS, 2_524_817, None),
                 SCRFD, ".910/.884/.695 on WIDER FACE"),
    _insightface(_row("scrfd_2.5g", "https://huggingface.co/immich-app/buffalo_m/resolve/main/detection/model.onnx",
                      "041f73f47371333d1d17a6fee6c8ab4e6aecabefe398ff32cca4e2d5eaee0af9",
                      SCRFD_PIN, 3_292_009, None),
                 SCRFD, ".938/.920/.771 on WIDER FACE"),
    _insightface(_row("scrfd_10g", f"{UNIFACE}/scrfd_10g_kps.onnx",
                      "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91", PINS, 16_923_827, None),
                 SCRFD, ".954/.940/.828 on WIDER FACE"),
)  # fmt: skip


class Accepted(Record):
    """A licence that the user accepted."""

    licence: str
    data: str


def face_weights(name: str | Path, kind: Kind | None = None) -> Weights | None:
    """Return the face recognizer or detector of a name; None where there is none, or it is of another kind.

    >>> face_weights("sface").kind, face_weights("sface", "detector"), face_weights("resnet50")
    ('recognizer', None, None)
    """
    row = next((row for row in FACE_WEIGHTS if row.name == str(name)), None)
    return row if row is not None and kind in (None, row.kind) else None


def file_of(row: Weights, *, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Return the ONNX file of a row, downloaded at its first use.

    Args:
        cache: the folder; `cache_folder()` where None. progress: takes bytes done and in all;
            None: `events.download_handler` is told.
    Raises:
        WeightsError: its licence is not accepted; the file cannot be had, or has another checksum. The message names
            the address and the folder.
    """
    check_accepted(row, cache)
    file = cached_file(row, cache)
    remote = Remote(row.source, row.sha256, row.bytes or MOST_BYTES)
    fetch(remote, file, download_reporter(row.name) if progress is None else progress)
    return file


def download_reporter(name: str) -> Progress:
    """Return what reports a download to `events.download_handler`."""
    on_event = download_handler.get()
    return lambda done, total: on_event(Told(f"downloading {name}, kB", done // 1000, total // 1000))


def check_accepted(row: Weights, cache: Path | None = None) -> None:
    """Raises WeightsError: a licence that has to be accepted, was not, and `events.licence_question` does not do it."""
    if row.asks and row.name not in accepted(cache):
        terms = f"{row.name}: licence {row.licence}; training data {row.data}"
        if licence_question.get()(terms):
            accept(row, cache)
            return
        raise WeightsError(
            f"{terms} (see `facewright weights list {row.name}`)."
            f" If that allows your use, accept it once: facewright weights get {row.name} --accept-licence {row.name}"
        )


def accept(row: Weights, cache: Path | None = None) -> None:
    """Keep in the cache that the user accepts the licence of a row."""
    path = _licences(cache)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = accepted(cache) | {row.name: Accepted(licence=row.licence, data=row.data)}
    write_atomic(path, json.dumps({name: one.to_dict() for name, one in facts.items()}, indent=2) + "\n")


def accepted(cache: Path | None = None) -> dict[str, Accepted]:
    """Return the accepted licences by the names of their weights.

    Raises:
        WeightsError: the file is damaged.
    """
    path = _licences(cache)
    return read_json(path, dict[str, Accepted], error=WeightsError) if path.is_file() else {}


def _licences(cache: Path | None) -> Path:
    return (cache_folder() if cache is None else cache) / "licences.json"
