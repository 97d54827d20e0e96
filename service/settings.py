"""The configuration, and the only reader of the environment (SERVOLOOP_*)."""

import contextlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_serializer, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import models
from service.domain import BatchPolicy

SHIPPED_CHECKPOINTS = Path(models.__file__).parent / "checkpoints"

_DEVICES = r"^(auto|cpu|cuda|cuda:[0-9]{1,3}(,cuda:[0-9]{1,3})*)$"

# Of http processes that nobody said a number of; more were never measured.
_CORES_OF_EACH, _MOST = 4, 4
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

PositiveInt = Annotated[int, Field(ge=1)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "servoloop"


def _usable_cores() -> float:
    """The cores that this process may run on, as far as the quota of its container goes."""
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):  # no cgroup of version 2, or "max", which is no quota
        quota, period = _CPU_QUOTA.read_text().split()
        cores = min(cores, int(quota) / int(period))
    return cores


def _is_folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise ValueError("there is no such folder")
    return path


def _is_postgres(url: SecretStr | None) -> SecretStr | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url.get_secret_value())
    except ValueError:
        raise ValueError("this is no URL") from None
    if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
        raise ValueError("expected postgresql://user:password@host:5432/database")
    return url


class Settings(BaseSettings):
    """Every value has its default here; docs list them in the README."""

    # Errors don't show what was given: it may hold a password.
    model_config = SettingsConfigDict(env_prefix="SERVOLOOP_", frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where the Open Inference Protocol is served over gRPC, on the same host; 0: nowhere. Needs servoloop[grpc]."""
    allow_remote: bool = False
    """Serve on an address that others can reach. Without keys, whoever reaches it may ask it anything."""

    data_dir: Annotated[Path, BeforeValidator(lambda path: path or _default_data_dir())] = Field(
        default_factory=_default_data_dir
    )
    shipped_checkpoints: Annotated[
        Path | None, BeforeValidator(lambda path: path or None), AfterValidator(_is_folder)
    ] = SHIPPED_CHECKPOINTS
    """The read-only root; empty serves registered models alone."""

    store_url: Annotated[SecretStr | None, BeforeValidator(lambda url: url or None), AfterValidator(_is_postgres)] = (
        None
    )
    """A PostgreSQL database that keeps aliases and the prediction log; empty keeps them in the data directory."""
    retention_days: Annotated[float, Field(gt=0, allow_inf_nan=False, le=36_500)] = 90.0
    """How long predictions and feedback are kept."""
    capture: Literal["sample", "all", "none"] = "sample"
    """Which inputs of predictions are kept, so that feedback can be learned from. sample: all of a model while there
    are few, and of more a uniform sample and those that it was least sure of."""
    capture_rows_per_second: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 50.0
    """Of each model, in the sample."""
    max_input_bytes: PositiveInt = 1 << 30
    """Of inputs that are kept; the oldest make room."""
    input_retention_days: Annotated[float, Field(gt=0, allow_inf_nan=False, le=36_500)] = 30.0
    """How long inputs are kept."""
    drift_rows: Annotated[int, Field(ge=100, le=10_000)] = 1_000
    """How many of a version's latest predictions are compared with its reference."""
    drift_minimum_rows: Annotated[int, Field(ge=20, le=10_000)] = 200
    """Of fewer predictions nothing is said about drift."""
    drift_psi: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2
    """From this population stability index on, predictions count as drifted."""
    drift_jensen_shannon: Annotated[float, Field(gt=0, le=1)] = 0.1
    """From this Jensen-Shannon divergence on, in bits, predictions count as drifted."""
    pending_feedback_hours: Annotated[float, Field(gt=0, allow_inf_nan=False, le=36_500 * 24)] = 24.0
    """How long feedback waits for a prediction that nobody knows of."""
    feedback_trust: dict[Annotated[str, Field(min_length=1, max_length=256)], Annotated[int, Field(ge=0, le=100)]] = {
        "audit": 3,
        "expert": 2,
    }
    """Of labels that differ, that of the most trusted source counts; every source that is not named has 1."""

    max_body_bytes: PositiveInt = 16 << 20
    max_buffered_bytes: PositiveInt = 256 << 20
    """Of the bodies of all requests that one http process has not answered yet."""
    max_rows_per_request: PositiveInt = 1024
    default_timeout_seconds: PositiveSeconds = 10.0
    max_timeout_seconds: PositiveSeconds = 120.0
    decode_threads: PositiveInt = 2
    """Threads that decode images and tokenise large bodies."""
    max_waiting_decodes: PositiveInt = 1024
    """Requests that may wait for these threads, in each http process."""

    max_batch_rows: PositiveInt = 32
    max_queue_delay_seconds: Annotated[float, Field(ge=0, le=10)] = 0.0
    max_queued_rows: PositiveInt = 2048
    max_queued_bytes: PositiveInt = 256 << 20
    """Of prepared rows that wait for one version."""
    max_batch_seconds: PositiveSeconds = 0.1
    """What a batch may be expected to take while other versions want the device."""

    device: Annotated[str, Field(pattern=_DEVICES)] = "auto"
    """auto (every GPU, or the CPU where there is none), cpu, cuda (every GPU), or cuda:N, several by commas."""
    model_memory_bytes: Annotated[int, Field(ge=0)] = 0
    """Of each engine's device, for loaded versions; 0 is half of what is free at start on a CPU, 0.9 on a GPU."""
    engine_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads that compute; 0 is one a core."""
    single_flight: Literal["on", "off"] = "off"
    """on: identical requests that one http process has at the same time share one forward."""
    result_cache_rows: Annotated[int, Field(ge=0)] = 0
    """Rows of answers that each http process keeps for inputs that come again; with `single_flight` alone."""
    result_cache_bytes: PositiveInt = 64 << 20
    """Of the inputs and outputs that it keeps."""
    optimize: Literal["auto", "manual", "off"] = "auto"
    """auto: networks run on what was found to be best for them, which is tried once in the background; manual: only
    `servoloop optimize` tries; off: all run on PyTorch."""
    optimize_max_busy: Annotated[float, Field(ge=0, le=1)] = 0.1
    """How busy others may keep the cores while back ends are timed in the background; 1: as they like."""
    http_processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that parse, validate and answer; they share the port and the engines. 0: one for each four cores, four
    at most."""
    unready_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    """How long the service goes on accepting once it is told to stop, while /readyz already says 503."""
    watchdog_seconds: Annotated[float, Field(ge=2, le=600)] = 5.0
    """How long an engine may be silent before the service is unready and the engine is replaced; the recorder and the
    loop process may be three times as long."""
    drain_seconds: PositiveSeconds = 20.0
    """How long requests that were accepted may take after that."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    access_log: bool = False
    """Log each answered request, not only those that failed."""

    @model_validator(mode="after")
    def _check_cache(self) -> Self:
        if self.result_cache_rows and self.single_flight == "off":
            raise ValueError("SERVOLOOP_RESULT_CACHE_ROWS needs SERVOLOOP_SINGLE_FLIGHT=on")
        return self

    @model_validator(mode="after")
    def _check_drift(self) -> Self:
        if self.drift_minimum_rows > self.drift_rows:
            raise ValueError("SERVOLOOP_DRIFT_MINIMUM_ROWS is more than SERVOLOOP_DRIFT_ROWS")
        return self

    @property
    def registered_models(self) -> Path:
        return self.data_dir / "models"

    @property
    def optimized(self) -> Path:
        """Where what was found out about back ends is kept."""
        return self.data_dir / "optimized"

    @property
    def model_roots(self) -> list[Path]:
        """Where checkpoints are looked for, in order."""
        shipped = [self.shipped_checkpoints] if self.shipped_checkpoints else []
        return [*shipped, self.registered_models]

    @property
    def devices(self) -> list[str]:
        """What the first engines are started on; those for further GPUs follow once one tells of them."""
        return list(dict.fromkeys(self.device.split(",")))

    @property
    def wants_every_gpu(self) -> bool:
        return self.device in ("auto", "cuda")

    @property
    def threads(self) -> int:
        """How many compute on a CPU."""
        return self.engine_threads or len(os.sched_getaffinity(0))

    @property
    def num_http_processes(self) -> int:
        """How many there are to be. On two cores a second one takes from the network what it gives."""
        return self.http_processes or min(_MOST, max(1, int(_usable_cores() // _CORES_OF_EACH)))

    @property
    def batch_policy(self) -> BatchPolicy:
        return BatchPolicy(
            max_rows=self.max_batch_rows,
            max_delay=self.max_queue_delay_seconds,
            max_queued_rows=self.max_queued_rows,
            max_queued_bytes=self.max_queued_bytes,
            max_batch_seconds=self.max_batch_seconds,
        )

    @field_serializer("store_url", when_used="json")
    def _reveal(self, url: SecretStr | None) -> str | None:
        """For `environment`: a child process needs the password too."""
        return None if url is None else url.get_secret_value()

    @staticmethod
    def unknown_variables() -> list[str]:
        """Variables that look like settings and are none: misspelt, or put there by another, as Kubernetes does."""
        known = {f"SERVOLOOP_{name.upper()}" for name in Settings.model_fields}
        return sorted(name for name in os.environ if name.startswith("SERVOLOOP_") and name not in known)

    def environment(self) -> dict[str, str]:
        """These settings as variables, for child processes."""
        values = self.model_dump(mode="json")
        return {f"SERVOLOOP_{name.upper()}": _written(value) for name, value in values.items()}


def _written(value: Any) -> str:
    """As a variable has it."""
    if isinstance(value, dict):
        return json.dumps(value)
    return "" if value is None else str(value)
