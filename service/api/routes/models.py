"""What is there: models, their versions, and what each takes and gives."""

from fastapi import APIRouter

from service.api.deps import EngineView, Services, UseServices
from service.api.schemas import BrokenInfo, ModelInfo, ModelList, ModelReadiness, VersionInfo, says_problem
from service.domain import Address
from service.errors import NotReady
from service.registry.catalog import Model, Version
from service.serving.codec import media_types

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(services: UseServices) -> ModelList:
    """All models, and the checkpoints that can't be served, with the reason."""
    models = [_model(model, services.engines) for model in services.catalog.models.values()]
    return ModelList(models=models, broken=_broken(services))


@router.get("/v1/models/{model}", responses={404: says_problem("There is no such model")})
async def get_model(model: str, services: UseServices) -> ModelInfo:
    """One model: task, labels, input contract, versions and their metrics."""
    return _model(services.catalog.model(model), services.engines)


@router.get(
    "/v1/models/{model}/ready",
    responses={404: says_problem("There is no such model"), 503: says_problem("Its champion does not answer")},
)
async def get_readiness(model: str, services: UseServices) -> ModelReadiness:
    """Whether the model's champion answers: for load balancers that route by model."""
    champion = services.catalog.find(Address(model)).ref
    if (reason := services.engines.why_unready(champion)) is not None:
        raise NotReady(champion, reason)
    return ModelReadiness(model=model, version=str(champion.version))


def _model(model: Model, engines: EngineView) -> ModelInfo:
    manifest = model.example.manifest
    return ModelInfo(
        name=model.name,
        task=manifest.task,
        input=manifest.input,
        content_types=media_types(manifest.input),
        labels=manifest.labels,
        target=manifest.target,
        aliases={alias: str(version) for alias, version in model.aliases.items()},
        ready=model.champion is not None and engines.is_ready(model.champion.ref),
        versions=[_version(version, engines) for version in model.versions.values()],
    )


def _version(version: Version, engines: EngineView) -> VersionInfo:
    manifest = version.manifest
    reason = engines.why_unready(version.ref)
    return VersionInfo(
        version=str(version.ref.version),
        ready=reason is None,
        reason=reason,
        description=manifest.description,
        architecture=manifest.architecture.family,
        digest=manifest.digest,
        metrics=manifest.metrics,
    )


def _broken(services: Services) -> list[BrokenInfo]:
    found = [
        BrokenInfo(model=entry.model, version=entry.version, reason=entry.reason) for entry in services.catalog.broken
    ]
    refused = [
        BrokenInfo(model=ref.model, version=str(ref.version), reason=reason)
        for ref, reason in services.engines.status.failed.items()
    ]
    return [*found, *refused]
