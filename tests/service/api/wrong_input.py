"""Everything that may be wrong with a predict request, one case a line."""

# A table reads best with one case a line.
# ruff: noqa: E501, RUF001

import base64
import gzip
import io
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from tests.service.api.support import MAX_BODY_BYTES, MAX_ROWS

PIXELS = "1 x 28 x 28 numbers from 0 to 255, or the bytes of a PNG, JPEG or WebP image"
COLOURS = "3 x 4 x 6 numbers from 0 to 255, or the bytes of a PNG, JPEG or WebP image"
TEXT = "a text of 1 to 200 characters"
VECTOR = "4 numbers (float32)"
STEPS = "any x 3 numbers (float32)"
IDS = "any numbers (int64)"
COLUMNS = "a number for each column: area, rooms"
BODY = '{"instances": [...]}'
PARAMETERS = "one of top_k, return_probabilities, timeout_ms, priority, key, tags, external_ids"
FLOAT32 = "a number from -3.40282e+38 to 3.40282e+38"
NPY = "a .npy file of numbers, version 1 or 2"
JSON_TYPE, PNG_TYPE, NPY_TYPE = "application/json", "image/png", "application/x-npy"


@dataclass(frozen=True)
class Case:
    """A request, and what is said of it."""

    name: str
    path: str
    body: Any
    """Bytes as they are, anything else as JSON."""
    status: int
    field: str | None
    what: str
    """`…` stands for a word that a library changed between versions that pyproject.toml allows."""
    expected: str | None = None
    content_type: str | None = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def detail(self) -> str:
        where = f"{self.field}: " if self.field and self.status != 404 else ""
        return where + self.what + (f"; expected {self.expected}" if self.expected else "")

    def is_told_by(self, detail: str) -> bool:
        """Whether this is what the answer should say."""
        return re.fullmatch(re.escape(self.detail).replace("…", r"\w+"), detail) is not None


def one(instance: Any, **parameters: Any) -> dict[str, Any]:
    """A request of one row."""
    return {"instances": [instance], **({"parameters": parameters} if parameters else {})}


def picture(width: int = 28, height: int = 28, mode: str = "L", form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, form)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A few bytes of PNG that say they are very many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp_bomb(width: int, height: int) -> bytes:
    """A lossless WebP file whose header says that it has very many pixels."""
    stream = b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(9)
    chunk = b"VP8L" + struct.pack("<I", len(stream)) + stream
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg_bomb(width: int, height: int) -> bytes:
    """A JPEG whose header says that it has very many pixels."""
    file = picture(form="JPEG")
    start = file.index(b"\xff\xc0") + 5
    return file[:start] + struct.pack(">HH", height, width) + file[start + 4 :]


def damaged(file: bytes) -> bytes:
    """The same file with its middle turned over."""
    middle = len(file) // 2
    return file[:middle] + bytes(255 - byte for byte in file[middle : middle + 8]) + file[middle + 8 :]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def npy(array: Any, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npy_saying(header: str, elements: bytes = b"") -> bytes:
    """A .npy file with this header, whatever it holds."""
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + elements


def npy_of_shape(shape: str, elements: bytes = b"", descr: str = "'<f4'") -> bytes:
    return npy_saying(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", elements)


def pixels(value: Any = 0, rows: int = 28, columns: int = 28) -> list[list[Any]]:
    return [[0] * columns for _ in range(rows - 1)] + [[0] * (columns - 1) + [value]]


def nested(depth: int) -> bytes:
    return b'{"instances": [' + b"[" * depth + b"]" * depth + b"]}"


# fmt: off

CLOTHES = "/v1/models/clothes/predict"
THUMBNAILS = "/v1/models/thumbnails/predict"
MOOD = "/v1/models/mood/predict"
SENSORS = "/v1/models/sensors/predict"
MOTION = "/v1/models/motion/predict"
CODES = "/v1/models/codes/predict"
RENT = "/v1/models/rent/predict"
GOOD_PICTURE = one(pixels())

OF_PIXELS = [
    Case("fewer rows than the picture has", CLOTHES, one(pixels(rows=27)), 422, "instances[0]", "the shape is 27 x 28", PIXELS),
    Case("a flat list of pixels", CLOTHES, one([0] * 784), 422, "instances[0]", "the shape is 784", PIXELS),
    Case("a channel axis too many", CLOTHES, one([[pixels()]]), 422, "instances[0]", "the shape is 1 x 1 x 28 x 28", PIXELS),
    Case("three channels for one", CLOTHES, one([pixels()] * 3), 422, "instances[0]", "the shape is 3 x 28 x 28", PIXELS),
    Case("one channel for three", THUMBNAILS, one(pixels(rows=4, columns=6)), 422, "instances[0]", "the shape is 4 x 6", COLOURS),
    Case("height and width swapped", THUMBNAILS, one([pixels(rows=6, columns=4)] * 3), 422, "instances[0]", "the shape is 3 x 6 x 4", COLOURS),
    Case("the second row is wrong", CLOTHES, {"instances": [pixels(), pixels(columns=3)]}, 422, "instances[1]", "the shape is 28 x 3", PIXELS),
    Case("a number", CLOTHES, one(7), 422, "instances[0]", "the shape is that of a single number", PIXELS),
    Case("an empty list", CLOTHES, one([]), 422, "instances[0]", "the shape is 0", PIXELS),
    Case("a string", CLOTHES, one("pixels"), 422, "instances[0]", "this is a string", PIXELS),
    Case("null", CLOTHES, one(None), 422, "instances[0]", "this is null", PIXELS),
    Case("true", CLOTHES, one(True), 422, "instances[0]", "this is a boolean", PIXELS),
    Case("a string among pixels", CLOTHES, one(pixels("7")), 422, "instances[0][27][27]", "this is a string", PIXELS),
    Case("null among pixels", CLOTHES, one(pixels(None)), 422, "instances[0][27][27]", "this is null", PIXELS),
    Case("true among pixels", CLOTHES, one(pixels(True)), 422, "instances[0][27][27]", "this is a boolean", PIXELS),
    Case("an object among pixels", CLOTHES, one(pixels({})), 422, "instances[0][27][27]", "this is an object", PIXELS),
    Case("a pixel above 255", CLOTHES, one(pixels(256)), 422, "instances[0][27][27]", "the value is 256", "a number from 0 to 255"),
    Case("a pixel below 0", CLOTHES, one(pixels(-1)), 422, "instances[0][27][27]", "the value is -1", "a number from 0 to 255"),
    Case("a pixel of a hundred digits", CLOTHES, one(pixels(10**99)), 422, "instances[0][27][27]", "the value is 1e+99", "a number from 0 to 255"),
    Case("a ragged picture", CLOTHES, one([*pixels(rows=27), [0] * 27]), 422, "instances[0][27]", "this has 27 elements and its neighbour instances[0][0] 28 elements", PIXELS),
    Case("a number beside lists", CLOTHES, one([*pixels(rows=27), 0]), 422, "instances[0][27]", "this has none: it is a number and its neighbour instances[0][0] 28 elements", PIXELS),
    Case("values of another shape", CLOTHES, one({"values": [1, 2]}), 422, "instances[0].values", "the shape is 2", PIXELS),
    Case("values beside another key", CLOTHES, one({"values": pixels(), "label": 3}), 422, "instances[0]", "the object has the keys: label, values", f"'values' alone, holding {PIXELS}"),
    Case("an object without a key", CLOTHES, one({}), 422, "instances[0]", "the object has the keys: none", f"'values' alone, holding {PIXELS}"),
    Case("a text for a picture", CLOTHES, one({"text": "boot"}), 422, "instances[0]", "the object has the keys: text", f"'values' alone, holding {PIXELS}"),
]

OF_IMAGE_FILES = [
    Case("no image", CLOTHES, b"hello", 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, PNG_TYPE),
    Case("a GIF", CLOTHES, picture(form="GIF"), 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, PNG_TYPE),
    Case("a truncated PNG", CLOTHES, picture(200, 200)[:-40], 422, "body", "the image is damaged or cut short and can't be decoded", PIXELS, PNG_TYPE),
    Case("a truncated JPEG", CLOTHES, picture(200, 200, form="JPEG")[:-300], 422, "body", "the image is damaged or cut short and can't be decoded", PIXELS, "image/jpeg"),
    Case("a PNG with a damaged middle", CLOTHES, damaged(picture(200, 200)), 422, "body", "the image is damaged or cut short and can't be decoded", PIXELS, PNG_TYPE),
    Case("a bomb", CLOTHES, bomb(60_000, 60_000), 422, "body", "the image has too many pixels, at most 32000000 are accepted", PIXELS, PNG_TYPE),
    Case("a small bomb", CLOTHES, bomb(6_000, 6_000), 422, "body", "the image has 6000 x 6000 pixels, at most 32000000 are accepted", PIXELS, PNG_TYPE),
    Case("a PNG of its signature", CLOTHES, picture()[:8], 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, PNG_TYPE),
    Case("a PNG of its header", CLOTHES, picture(200, 200)[:33], 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, PNG_TYPE),
    Case("a JPEG of its first bytes", CLOTHES, picture(200, 200, form="JPEG")[:4], 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, "image/jpeg"),
    Case("a JPEG without its tables", CLOTHES, picture(200, 200, form="JPEG")[:30], 422, "body", "the image is damaged or cut short and can't be decoded", PIXELS, "image/jpeg"),
    Case("a truncated WebP", CLOTHES, picture(200, 200, "RGB", "WEBP")[:-20], 422, "body", "the image is damaged or cut short and can't be decoded", PIXELS, "image/webp"),
    Case("a WebP of its header", CLOTHES, picture(200, 200, "RGB", "WEBP")[:12], 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, "image/webp"),
    Case("a WebP with a damaged middle", CLOTHES, damaged(picture(200, 200, "RGB", "WEBP")), 422, "body", "the image is damaged or cut short and can't be decoded", PIXELS, "image/webp"),
    Case("a bomb of JPEG", CLOTHES, jpeg_bomb(65_000, 65_000), 422, "body", "the image has too many pixels, at most 32000000 are accepted", PIXELS, "image/jpeg"),
    Case("a small bomb of JPEG", CLOTHES, jpeg_bomb(6_000, 6_000), 422, "body", "the image has 6000 x 6000 pixels, at most 32000000 are accepted", PIXELS, "image/jpeg"),
    Case("a bomb of WebP", CLOTHES, webp_bomb(16_000, 16_000), 422, "body", "the image has too many pixels, at most 32000000 are accepted", PIXELS, "image/webp"),
    Case("a PNG of no pixels", CLOTHES, bomb(0, 0), 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, PNG_TYPE),
    Case("an array that says it is a PNG", CLOTHES, npy(np.zeros((28, 28))), 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, PNG_TYPE),
    Case("JSON that says it is a JPEG", CLOTHES, one(pixels()), 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, "image/jpeg"),
    Case("a zip that says it is a PNG", CLOTHES, b"PK\x03\x04" + bytes(100), 422, "body", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS, PNG_TYPE),
    Case("a PNG that says it is JSON", CLOTHES, picture(), 400, "body", "this is no JSON: str is not valid UTF-8: surrogates not allowed (character 0)", BODY),
    Case("16 bits a channel", CLOTHES, picture(mode="I;16"), 422, "body", "the image stores more than 8 bits a channel (mode I;16), expected 8", PIXELS, PNG_TYPE),
    Case("a broken image in base64", CLOTHES, one({"image": base64_of(picture(200, 200)[:-40])}), 422, "instances[0].image", "the image is damaged or cut short and can't be decoded", PIXELS),
    Case("a bomb in base64", CLOTHES, one({"image": base64_of(bomb(60_000, 60_000))}), 422, "instances[0].image", "the image has too many pixels, at most 32000000 are accepted", PIXELS),
    Case("no base64", CLOTHES, one({"image": "%%%"}), 422, "instances[0].image", "this is not base64", "an image file in base64"),
    Case("base64 cut short", CLOTHES, one({"image": base64_of(picture())[:-3]}), 422, "instances[0].image", "this is not base64", "an image file in base64"),
    Case("base64 of nothing", CLOTHES, one({"image": ""}), 422, "instances[0].image", "the bytes are no image of a known format, expected one of PNG, JPEG, WEBP", PIXELS),
    Case("an image that is a number", CLOTHES, one({"image": 7}), 422, "instances[0].image", "this is a number", "an image file in base64"),
    Case("an image beside another key", CLOTHES, one({"image": "", "values": []}), 422, "instances[0]", "the object has the keys: image, values", f"'image' alone, holding {PIXELS}"),
    Case("an image for a model of numbers", SENSORS, one({"image": base64_of(picture())}), 422, "instances[0]", "the object has the keys: image", f"'values' alone, holding {VECTOR}"),
]

OF_TEXTS = [
    Case("an empty text", MOOD, one(""), 422, "instances[0]", "the text is empty", TEXT),
    Case("a text of blanks", MOOD, one({"text": " \n\t"}), 422, "instances[0].text", "the text is empty", TEXT),
    Case("a text that is too long", MOOD, one("x" * 201), 422, "instances[0]", "the text has 201 characters", TEXT),
    Case("a number for a text", MOOD, one(7), 422, "instances[0]", "this is a number", TEXT),
    Case("null for a text", MOOD, one({"text": None}), 422, "instances[0].text", "this is null", TEXT),
    Case("a list of texts as a row", MOOD, one(["good"]), 422, "instances[0]", "this is an array", TEXT),
    Case("a text under another key", MOOD, one({"txt": "good"}), 422, "instances[0]", "the object has the keys: txt", f"'text' alone, holding {TEXT}"),
    Case("a raw text of blanks", MOOD, b"  ", 422, "body", "the text is empty", TEXT, "text/plain"),
    Case("a raw text that is too long", MOOD, b"x" * 201, 422, "body", "the text has 201 characters", TEXT, "text/plain"),
    Case("a raw text in Latin-1", MOOD, "naïve".encode("latin-1"), 400, "body", "byte 2 is not UTF-8", "text in UTF-8", "text/plain"),
]

OF_NUMBERS = [
    Case("too few numbers", SENSORS, one([1, 2, 3]), 422, "instances[0]", "the shape is 3", VECTOR),
    Case("numbers in a list of their own", SENSORS, one([[1, 2, 3, 4]]), 422, "instances[0]", "the shape is 1 x 4", VECTOR),
    Case("a string among numbers", SENSORS, one([1, 2, "3", 4]), 422, "instances[0][2]", "this is a string", VECTOR),
    Case("false among numbers", SENSORS, one([1, 2, False, 4]), 422, "instances[0][2]", "this is a boolean", VECTOR),
    Case("only booleans", SENSORS, one([True] * 4), 422, "instances[0][0]", "this is a boolean", VECTOR),
    Case("above the range", SENSORS, one([1, 2, 3, 100.5]), 422, "instances[0][3]", "the value is 100.5", "a number from -100 to 100"),
    Case("a number past 64 bits", SENSORS, one([1, 2**64, 3, 4]), 422, "instances[0][1]", "the value is 1.8446744073709552e+19", "a number from -100 to 100"),
    Case("no steps", MOTION, one([]), 422, "instances[0]", "the shape is 0", STEPS),
    Case("steps of another width", MOTION, one([[1, 2]]), 422, "instances[0]", "the shape is 1 x 2", STEPS),
    Case("steps of different widths", MOTION, one([[1, 2, 3], [1, 2]]), 422, "instances[0][1]", "this has 2 elements and its neighbour instances[0][0] 3 elements", STEPS),
    Case("too many steps", MOTION, one([[1, 2, 3]] * 17), 422, "instances[0]", "the sequence has 17 steps", "at most 16 steps"),
    Case("a number past float32", MOTION, one([[1, 2, 3], [1, 1e39, 3]]), 422, "instances[0][1][1]", "the value is 1e+39", FLOAT32),
    Case("lists deeper than any array", MOTION, nested(100), 422, "instances[0][0][0]", "this is nested too deeply", STEPS),
    Case("an id above the range", CODES, one([1, 10]), 422, "instances[0][1]", "the value is 10", "a number from 0 to 9"),
    Case("an id below the range", CODES, one([-1]), 422, "instances[0][0]", "the value is -1", "a number from 0 to 9"),
    Case("an id with a fraction", CODES, one([1, 2.5]), 422, "instances[0]", "elements are not whole numbers", IDS),
    Case("an id of a hundred digits", CODES, one([10**99]), 422, "instances[0][0]", "the value is 1e+99", "a number from 0 to 9"),
    Case("an id past 63 bits", CODES, one([2**63]), 422, "instances[0][0]", "the value is 9223372036854775808", "a number from 0 to 9"),
    Case("too many ids", CODES, one([1] * 9), 422, "instances[0]", "the sequence has 9 steps", "at most 8 steps"),
    Case("ids with an axis too many", CODES, one([[1, 2]]), 422, "instances[0]", "the shape is 1 x 2", IDS),
]

OF_COLUMNS = [
    Case("a missing column", RENT, one({"columns": {"area": 50}}), 422, "instances[0].columns", "the column 'rooms' is missing", COLUMNS),
    Case("a misspelt column", RENT, one({"columns": {"area": 50, "room": 2}}), 422, "instances[0].columns", "there is no column 'room'", COLUMNS),
    Case("an extra column", RENT, one({"columns": {"area": 50, "rooms": 2, "rent": 1}}), 422, "instances[0].columns", "there is no column 'rent'", COLUMNS),
    Case("a string in a column", RENT, one({"columns": {"area": "50", "rooms": 2}}), 422, "instances[0].columns.area", "this is a string", "a number"),
    Case("null in a column", RENT, one({"columns": {"area": 50, "rooms": None}}), 422, "instances[0].columns.rooms", "this is null", "a number"),
    Case("true in a column", RENT, one({"columns": {"area": 50, "rooms": True}}), 422, "instances[0].columns.rooms", "this is a boolean", "a number"),
    Case("a list in a column", RENT, one({"columns": {"area": [50], "rooms": 2}}), 422, "instances[0].columns.area", "this is an array", "a number"),
    Case("a column out of its range", RENT, one({"columns": {"area": -1, "rooms": 2}}), 422, "instances[0].columns.area", "the value is -1.0", "a number from 0 to 3.40282e+38"),
    Case("a column above its range", RENT, one({"columns": {"area": 1, "rooms": 2e9}}), 422, "instances[0].columns.rooms", "the value is 2000000000.0", "a number from 1 to 20"),
    Case("columns that are a list", RENT, one({"columns": [50, 2]}), 422, "instances[0].columns", "this is an array", "an object of column -> number"),
    Case("columns without their key", RENT, one({"area": 50, "rooms": 2}), 422, "instances[0]", "the object has the keys: area, rooms", f"'columns' alone, holding {COLUMNS}"),
    Case("too few values for the columns", RENT, one({"values": [50]}), 422, "instances[0].values", "the shape is 1", COLUMNS),
]

OF_BODIES = [
    Case("nothing", CLOTHES, b"", 400, "body", "the body is empty", "the rows to predict"),
    Case("cut short", CLOTHES, b'{"instances": [', 400, "body", "this is no JSON: unexpected end of data (character 15)", BODY),
    Case("a comma too many", CLOTHES, b'{"instances": [1,]}', 400, "body", "this is no JSON: trailing comma is not allowed (character 16)", BODY),
    Case("NaN", SENSORS, b'{"instances": [[1, 2, 3, NaN]]}', 400, "body", "this is no JSON: unexpected character, expected a JSON value (character 25)", BODY),
    Case("Infinity", SENSORS, b'{"instances": [[1, 2, 3, Infinity]]}', 400, "body", "this is no JSON: unexpected character, expected a JSON value (character 25)", BODY),
    Case("1e400", SENSORS, b'{"instances": [[1, 2, 3, 1e400]]}', 400, "body", "this is no JSON: number is infinity when parsed as double (character 25)", BODY),
    Case("two documents", SENSORS, b"{}{}", 400, "body", "this is no JSON: unexpected content after document (character 2)", BODY),
    Case("invalid UTF-8", MOOD, b'{"instances": ["\xff"]}', 400, "body", "this is no JSON: str is not valid UTF-8: surrogates not allowed (character 0)", BODY),
    Case("a lone surrogate", MOOD, b'{"instances": ["\\ud800"]}', 400, "body", "this is no JSON: no low surrogate in string (character 16)", BODY),
    Case("an error after letters of two bytes", MOOD, '{"instances": ["éé",]}'.encode(), 400, "body", "this is no JSON: trailing comma is not allowed (character 19)", BODY),
    Case("nested too deeply", CLOTHES, nested(5000), 400, "body", "this is no JSON: depth limit exceeded (character 1038)", BODY),
    Case("nested deeply", CLOTHES, nested(1000), 422, "instances[0][0][0][0]", "this is nested too deeply", PIXELS),
    Case("a list", CLOTHES, [1], 422, "body", "this is no object", BODY),
    Case("a bare string", MOOD, "good", 422, "body", "this is no object", BODY),
    Case("a misspelt field", CLOTHES, {"instance": []}, 422, "body", "there is no field 'instance'", '{"instances": [...], "parameters": {...}}'),
    Case("no instances", CLOTHES, {}, 422, "instances", "there are no instances", "an array of at least one row"),
    Case("empty instances", CLOTHES, {"instances": []}, 422, "instances", "there are no instances", "an array of at least one row"),
    Case("instances that are an object", CLOTHES, {"instances": {"0": 1}}, 422, "instances", "there are no instances", "an array of at least one row"),
    Case("too many rows", MOOD, {"instances": ["good"] * (MAX_ROWS + 1)}, 422, "instances", f"there are {MAX_ROWS + 1} rows", f"at most {MAX_ROWS}"),
    Case("too large", CLOTHES, b" " * (MAX_BODY_BYTES + 1), 413, "body", "the body is too large", f"at most {MAX_BODY_BYTES} bytes"),
]

OF_CONTENT_TYPES = [
    Case("none", CLOTHES, b"x", 415, "Content-Type", "there is no Content-Type", "one of application/json, image/png, image/jpeg, image/webp, application/x-npy", None),
    Case("a form", CLOTHES, b"x", 415, "Content-Type", "this model does not take 'multipart/form-data'", "one of application/json, image/png, image/jpeg, image/webp, application/x-npy", "multipart/form-data; boundary=x"),
    Case("pickle", SENSORS, b"x", 415, "Content-Type", "this model does not take 'application/octet-stream'", "one of application/json, application/x-npy", "application/octet-stream"),
    Case("an image for a text", MOOD, picture(), 415, "Content-Type", "this model does not take 'image/png'", "one of application/json, text/plain", PNG_TYPE),
    Case("a text for an image", CLOTHES, b"boot", 415, "Content-Type", "this model does not take 'text/plain'", "one of application/json, image/png, image/jpeg, image/webp, application/x-npy", "text/plain"),
    Case("an array for a text", MOOD, npy(np.zeros(3)), 415, "Content-Type", "this model does not take 'application/x-npy'", "one of application/json, text/plain", NPY_TYPE),
    Case("another charset", MOOD, b"good", 415, "Content-Type", "'iso-8859-1' is not read", "charset=utf-8", "text/plain; charset=iso-8859-1"),
    Case("UTF-16", MOOD, one("good"), 415, "Content-Type", "'utf-16' is not read", "charset=utf-8", 'application/json; charset="UTF-16"'),
    Case("a charset after another option", MOOD, b"good", 415, "Content-Type", "'utf-16' is not read", "charset=utf-8", "text/plain; format=flowed; charset=utf-16"),
    Case("gzip", CLOTHES, gzip.compress(b"{}"), 415, "Content-Encoding", "'gzip' is not read", "a body that is not compressed", headers={"Content-Encoding": "gzip"}),
]

OF_NPY = [
    Case("no npy", CLOTHES, b"hello", 400, "body", "the header can't be read", NPY, NPY_TYPE),
    Case("pickled objects", SENSORS, npy(np.array([{}], object), allow_pickle=True), 400, "body", "elements are of type object", NPY, NPY_TYPE),
    Case("strings", SENSORS, npy(np.array(["1"])), 400, "body", "elements are of type <U1", NPY, NPY_TYPE),
    Case("booleans", SENSORS, npy(np.ones(4, bool)), 400, "body", "elements are of type bool", NPY, NPY_TYPE),
    Case("complex numbers", SENSORS, npy(np.ones(4, complex)), 400, "body", "elements are of type complex128", NPY, NPY_TYPE),
    Case("more in the shape than was sent", SENSORS, npy_of_shape("(4,)", bytes(12)), 400, "body", "12 bytes of elements were sent for shape (4,) of float32", "16 bytes", NPY_TYPE),
    Case("less in the shape than was sent", SENSORS, npy_of_shape("(4,)", bytes(20)), 400, "body", "20 bytes of elements were sent for shape (4,) of float32", "16 bytes", NPY_TYPE),
    Case("a shape of terabytes", SENSORS, npy_of_shape("(1000000000000,)"), 400, "body", "0 bytes of elements were sent for shape (1000000000000,) of float32", "4000000000000 bytes", NPY_TYPE),
    Case("a negative shape", SENSORS, npy_of_shape("(-4,)", bytes(16)), 400, "body", "16 bytes of elements were sent for shape (-4,) of float32", "-16 bytes", NPY_TYPE),
    Case("a shape that no array has", SENSORS, npy_of_shape(f"(0, {10**30})"), 400, "body", f"there is no array of shape (0, {10**30})", NPY, NPY_TYPE),
    Case("more axes than an array has", SENSORS, npy_of_shape(str((1,) * 100), bytes(4)), 400, "body", f"there is no array of shape {(1,) * 100}", NPY, NPY_TYPE),
    Case("a header that never ends", SENSORS, npy_saying("{'descr': ("), 400, "body", "the header can't be read", NPY, NPY_TYPE),
    Case("a type that is no type", SENSORS, npy_of_shape("(4,)", bytes(16), descr="()"), 400, "body", "the header can't be read", NPY, NPY_TYPE),
    Case("a header that calls", SENSORS, npy_saying("__import__('os').abort()"), 400, "body", "the header can't be read", NPY, NPY_TYPE),
    Case("another shape", CLOTHES, npy(np.zeros((28, 27), np.float32)), 422, "body", "the shape is 28 x 27", PIXELS, NPY_TYPE),
    Case("a batch without rows", CLOTHES, npy(np.zeros((0, 1, 28, 28), np.float32)), 422, "body", "the array has no rows", "at least one row", NPY_TYPE),
    Case("too many rows of an array", SENSORS, npy(np.zeros((MAX_ROWS + 1, 4), np.float32)), 422, "body", f"there are {MAX_ROWS + 1} rows", f"at most {MAX_ROWS}", NPY_TYPE),
    Case("a NaN in an array", SENSORS, npy(np.array([[0, 0, 0, 0], [0, 0, np.nan, 0]])), 422, "body[1][2]", "the value is nan", "a number from -100 to 100", NPY_TYPE),
    Case("an infinity in an array", MOTION, npy(np.array([[0, 0, -np.inf]])), 422, "body[0][2]", "the value is -inf", FLOAT32, NPY_TYPE),
    Case("fractions for ids", CODES, npy(np.array([1.0, 2.0])), 422, "body", "elements are not whole numbers", IDS, NPY_TYPE),
]

NAMES = "clothes, codes, mood, motion, rent, sensors, thumbnails"
OF_NAMES = [
    Case("a model that isn't there", "/v1/models/cloths/predict", GOOD_PICTURE, 404, "model", f"there is no model named 'cloths'; there is: {NAMES}"),
    Case("an upper case name", "/v1/models/Clothes/predict", GOOD_PICTURE, 404, "model", f"there is no model named 'Clothes'; there is: {NAMES}"),
    Case("dots for a model", "/v1/models/%2e%2e/predict", GOOD_PICTURE, 404, "model", f"there is no model named '..'; there is: {NAMES}"),
    Case("a backslash for a model", "/v1/models/..%5Cclothes/predict", GOOD_PICTURE, 404, "model", f"there is no model named '..\\\\clothes'; there is: {NAMES}"),
    Case("a slash for a model", "/v1/models/..%2Fclothes/predict", GOOD_PICTURE, 404, None, "there is nothing at this path; /docs shows what there is"),
    Case("dots escaped twice", "/v1/models/%252e%252e/predict", GOOD_PICTURE, 404, "model", f"there is no model named '%2e%2e'; there is: {NAMES}"),
    Case("a NUL for a model", "/v1/models/clothes%00/predict", GOOD_PICTURE, 404, "model", f"there is no model named 'clothes\\x00'; there is: {NAMES}"),
    Case("a very long name", f"/v1/models/{'x' * 5000}/predict", GOOD_PICTURE, 404, "model", f"there is no model named '{'x' * 100}'; there is: {NAMES}"),
    Case("a version that isn't there", "/v1/models/clothes/versions/3/predict", GOOD_PICTURE, 404, "version", "there is no version of clothes named '3'; there is: 1, 2"),
    Case("version 01", "/v1/models/clothes/versions/01/predict", GOOD_PICTURE, 404, "version", "there is no version of clothes named '01'; there is: 1, 2"),
    Case("version 1.0", "/v1/models/clothes/versions/1.0/predict", GOOD_PICTURE, 404, "version", "there is no version of clothes named '1.0'; there is: 1, 2"),
    Case("version -1", "/v1/models/clothes/versions/-1/predict", GOOD_PICTURE, 404, "version", "there is no version of clothes named '-1'; there is: 1, 2"),
    Case("version 0", "/v1/models/clothes/versions/0/predict", GOOD_PICTURE, 404, "version", "there is no version of clothes named '0'; there is: 1, 2"),
    Case("version 1 in other digits", "/v1/models/clothes/versions/%D9%A1/predict", GOOD_PICTURE, 404, "version", "there is no version of clothes named '١'; there is: 1, 2"),
    Case("a version of a thousand digits", f"/v1/models/clothes/versions/{'1' * 1000}/predict", GOOD_PICTURE, 404, "version", f"there is no version of clothes named '{'1' * 100}'; there is: 1, 2"),
    Case("an alias that isn't there", "/v1/models/clothes/aliases/challenger/predict", GOOD_PICTURE, 404, "alias", "there is no alias of clothes named 'challenger'; there is: candidate, champion"),
]

OF_PARAMETERS = [
    Case("an unknown parameter", MOOD, one("good", topk=3), 422, "parameters.topk", "there is no such parameter", PARAMETERS),
    Case("parameters that are a list", MOOD, {"instances": ["good"], "parameters": [3]}, 422, "parameters", "this is no object", 'an object like {"top_k": 3}'),
    Case("top_k 0", MOOD, one("good", top_k=0), 422, "parameters.top_k", "Input should be greater than or equal to 1", "a whole number from 1 to 1000"),
    Case("top_k 1001", MOOD, one("good", top_k=1001), 422, "parameters.top_k", "Input should be less than or equal to 1000", "a whole number from 1 to 1000"),
    Case("top_k as a string", MOOD, one("good", top_k="3"), 422, "parameters.top_k", "Input should be a valid integer", "a whole number from 1 to 1000"),
    Case("top_k true", MOOD, one("good", top_k=True), 422, "parameters.top_k", "Input should be a valid integer", "a whole number from 1 to 1000"),
    Case("top_k 1.5", MOOD, one("good", top_k=1.5), 422, "parameters.top_k", "Input should be a valid integer", "a whole number from 1 to 1000"),
    Case("return_probabilities 1", MOOD, one("good", return_probabilities=1), 422, "parameters.return_probabilities", "Input should be a valid boolean", "true or false"),
    Case("a negative timeout", MOOD, one("good", timeout_ms=-1), 422, "parameters.timeout_ms", "Input should be greater than 0", "a positive number of milliseconds"),
    Case("no time at all", MOOD, one("good", timeout_ms=0), 422, "parameters.timeout_ms", "Input should be greater than 0", "a positive number of milliseconds"),
    Case("a timeout in words", MOOD, one("good", timeout_ms="1s"), 422, "parameters.timeout_ms", "Input should be a valid number", "a positive number of milliseconds"),
    Case("fewer ids than rows", MOOD, {"instances": ["good", "bad"], "parameters": {"external_ids": ["a"]}}, 422, "parameters.external_ids", "there are 1 ids for 2 rows", "one for each row"),
    Case("an id that is a number", MOOD, one("good", external_ids=[7]), 422, "parameters.external_ids.0", "Input should be a valid string", "an array of texts of 1 to 256 printable characters, one for each row"),
    Case("an empty key", MOOD, one("good", key=""), 422, "parameters.key", "String should have at least 1 character", "1 to 256 printable characters"),
    Case("a key with a line break", MOOD, one("good", key="a\nb"), 422, "parameters.key", "String should match pattern '^[^\\x00-\\x1f\\x7f]+$'", "1 to 256 printable characters"),
    Case("a tag that is a number", MOOD, one("good", tags={"age": 7}), 422, "parameters.tags.age", "Input should be a valid string", "at most 32 names, without a colon, each with a text, both of 1 to 256 printable characters"),
    Case("33 tags", MOOD, one("good", tags={f"t{i}": "x" for i in range(33)}), 422, "parameters.tags", "Dictionary should have at most 32 items after validation, not …", "at most 32 names, without a colon, each with a text, both of 1 to 256 printable characters"),
    Case("a tag whose name has a colon", MOOD, one("good", tags={"a:b": "x"}), 422, "parameters.tags.a:b", "String should match pattern '^[^\\x00-\\x1f\\x7f:]+$'", "at most 32 names, without a colon, each with a text, both of 1 to 256 printable characters"),
    Case("an unknown query parameter", f"{MOOD}?topk=3", b"good", 422, "query.topk", "there is no such parameter", "one of top_k, return_probabilities, timeout_ms, priority, key, tags.<name>, external_id", "text/plain"),
    Case("top_k with an underscore", f"{MOOD}?top_k=1_0", b"good", 422, "query.top_k", "Input should be a valid integer", "a whole number from 1 to 1000", "text/plain"),
    Case("top_k twice", f"{MOOD}?top_k=1&top_k=2", b"good", 422, "query.top_k", "this is given twice", "one value", "text/plain"),
    Case("a query beside a JSON body", f"{MOOD}?top_k=3", one("good"), 422, "query.top_k", "beside a JSON body no query is read", 'it in "parameters" of the body'),
    Case("top_k in words", f"{MOOD}?top_k=three", b"good", 422, "query.top_k", "Input should be a valid integer", "a whole number from 1 to 1000", "text/plain"),
    Case("a NaN of milliseconds", f"{MOOD}?timeout_ms=nan", b"good", 422, "query.timeout_ms", "Input should be a valid number", "a positive number of milliseconds", "text/plain"),
    Case("perhaps", f"{MOOD}?return_probabilities=perhaps", b"good", 422, "query.return_probabilities", "Input should be a valid boolean", "true or false", "text/plain"),
    Case("one id for two rows", f"{SENSORS}?external_id=a", npy(np.zeros((2, 4))), 422, "query.external_ids", "there are 1 ids for 2 rows", "one for each row", NPY_TYPE),
]

TIME = "a positive number of milliseconds"
OF_HEADERS = [
    Case("a timeout in words", MOOD, one("good"), 400, "X-Request-Timeout-Ms", "'soon' is no time", TIME, headers={"X-Request-Timeout-Ms": "soon"}),
    Case("a timeout of 0", MOOD, one("good"), 400, "X-Request-Timeout-Ms", "'0' is no time", TIME, headers={"X-Request-Timeout-Ms": "0"}),
    Case("a negative timeout", MOOD, one("good"), 400, "X-Request-Timeout-Ms", "'-5' is no time", TIME, headers={"X-Request-Timeout-Ms": "-5"}),
    Case("a NaN of a timeout", MOOD, one("good"), 400, "X-Request-Timeout-Ms", "'nan' is no time", TIME, headers={"X-Request-Timeout-Ms": "nan"}),
    Case("an endless timeout", MOOD, one("good"), 400, "X-Request-Timeout-Ms", "'inf' is no time", TIME, headers={"X-Request-Timeout-Ms": "inf"}),
    Case("a long routing key", MOOD, one("good"), 400, "X-Routing-Key", "the key is malformed", "1 to 256 printable characters", headers={"X-Routing-Key": "x" * 257}),
    Case("an empty routing key", MOOD, one("good"), 400, "X-Routing-Key", "the key is malformed", "1 to 256 printable characters", headers={"X-Routing-Key": ""}),
    Case("a request id with a blank", MOOD, one("good"), 400, "X-Request-Id", "the id is malformed", "1 to 128 visible ASCII characters", headers={"X-Request-Id": "a b"}),
    Case("a long request id", MOOD, one("good"), 400, "X-Request-Id", "the id is malformed", "1 to 128 visible ASCII characters", headers={"X-Request-Id": "x" * 129}),
    Case("an empty request id", MOOD, one("good"), 400, "X-Request-Id", "the id is malformed", "1 to 128 visible ASCII characters", headers={"X-Request-Id": ""}),
]

TABLE = {
    "pixels": OF_PIXELS,
    "image files": OF_IMAGE_FILES,
    "texts": OF_TEXTS,
    "numbers": OF_NUMBERS,
    "columns": OF_COLUMNS,
    "body": OF_BODIES,
    "content type": OF_CONTENT_TYPES,
    "npy": OF_NPY,
    "names": OF_NAMES,
    "parameters": OF_PARAMETERS,
    "headers": OF_HEADERS,
}
# fmt: on
