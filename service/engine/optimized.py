"""What was found out about versions on this machine, kept in the data directory."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import orjson
import torch
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from models import strict_json
from models.manifest import Manifest, Name
from models.problems import problems
from service.engine.choosing import Trial
from service.engine.memory import processor_name

_MOST_BYTES = 1 << 20
_PACKAGES = ("numpy", "onnxruntime", "openvino", "servoloop")


class Unusable(ValueError):
    """What is kept can't be relied on; the text says why."""


class Evidence(BaseModel):
    """Everything that was tried for one version, on what rows, and the place in `tried` of what was chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    model: Name
    version: Annotated[int, Field(ge=1)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    measured_at: AwareDatetime
    environment: dict[str, str]
    cores: Annotated[int, Field(ge=1, le=4096)]
    rows: Annotated[str, Field(max_length=200)]
    num_rows: Annotated[int, Field(ge=1)]
    metric: Annotated[str, Field(max_length=100)]
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    tried: Annotated[list[Trial], Field(max_length=200)]
    chosen: Annotated[int, Field(ge=0)] | None


def environment_of(device: torch.device) -> dict[str, str]:
    """What a measurement depends on besides the version: the device, the libraries, and our own back ends."""
    name = processor_name() if device.type == "cpu" else torch.cuda.get_device_name(device)
    return {"device": name, "torch": torch.__version__, **{package: _version(package) for package in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


class Cache:
    """A file for each version and environment: another processor, another library, or another manifest find nothing."""

    def __init__(self, folder: Path, environment: Mapping[str, str], cores: int) -> None:
        self._folder = folder
        self.environment = dict(environment)
        self.cores = cores

    @staticmethod
    def of(folder: Path, device: torch.device) -> "Cache":
        """What was found out on this machine about versions on a device."""
        return Cache(folder, environment_of(device), len(os.sched_getaffinity(0)))

    def path(self, manifest: Manifest) -> Path:
        """Where a version's evidence lies, or would."""
        facts = {
            "environment": self.environment,
            "cores": self.cores,
            # All that a trial is judged by: the network, what prepares its rows, its labels and threshold, its files.
            "manifest": manifest.model_dump(mode="json"),
            "schema": Evidence.model_fields["schema_version"].default,
        }
        key = hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        return self._folder / f"{manifest.digest}-{key}.json"

    def read(self, manifest: Manifest) -> Evidence | None:
        """None where there is nothing. Raises Unusable for what is no evidence of this version and environment."""
        path = self.path(manifest)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise Unusable(f"{path.name} is no regular file")
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise Unusable(f"{path.name} is larger than {_MOST_BYTES} bytes")
            evidence = Evidence.model_validate(strict_json.loads(data))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unusable(f"{path.name} can't be read: {error.strerror}") from None
        except ValidationError as error:
            raise Unusable(f"{path.name} is not what is written there: {problems(error)[0][:300]}") from None
        except Unusable:
            raise
        except ValueError as error:
            raise Unusable(f"{path.name} is {str(error)[:300]}") from None
        found = (evidence.digest, evidence.environment, evidence.cores)
        if found != (manifest.digest, self.environment, self.cores):
            raise Unusable(f"{path.name} is about other weights, or another machine")
        return evidence

    def write(self, manifest: Manifest, evidence: Evidence) -> Path:
        """Keep it, in place of what was kept; whole or not at all. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(manifest)
        handle, draft = tempfile.mkstemp(prefix=".", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps(evidence.model_dump(mode="json"), option=orjson.OPT_INDENT_2))
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        return path
