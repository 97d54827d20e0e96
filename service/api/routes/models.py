"""What is there: models, their versions, and what each takes and gives."""

from fastapi import APIRouter

from service.api.deps import Services, UseServices
from service.api.schemas import BackendInfo, BrokenInfo, ModelInfo, ModelList, ModelReadiness, VersionInfo, says_problem
from service.api.standing import lost_champions, reason_of, standing_of, why_unready
from service.domain import Address, Execution, Loading, Ref, Wish
from service.errors import NotReady
from service.registry.catalog import Model
from service.registry.fleet import VersionState
from service.serving.codec import media_types

router = APIRouter(tags=["models"])

_NUMBER_DELETED = "its number was deleted; register it as a new version"


@router.get("/v1/models")
async def list_models(services: UseServices) -> ModelList:
    """All models, and the checkpoints that can't be served, with the reason."""
    models = [_model(model, services) for model in services.catalog().models.values()]
    return ModelList(models=models, broken=_broken(services))


@router.get("/v1/models/{model}", responses={404: says_problem("There is no such model")})
async def get_model(model: str, services: UseServices) -> ModelInfo:
    """One model: task, labels, input contract, versions and their metrics."""
    return _model(services.catalog().model(model), services)


@router.get(
    "/v1/models/{model}/ready",
    responses={404: says_problem("There is no such model"), 503: says_problem("Its champion does not answer")},
)
async def get_readiness(model: str, services: UseServices) -> ModelReadiness:
    """Whether the model's champion answers: for load balancers that route by model."""
    champion = services.catalog().find(Address(model)).ref
    if (reason := services.engines.why_unready(champion)) is not None:
        raise NotReady(champion, reason, passes=not standing_of(services, champion).state.is_hopeless)
    return ModelReadiness(model=model, version=str(champion.version))


def version_info(ref: Ref, services: Services, wish: Wish | None = None) -> VersionInfo:
    """All about one version; `wish` is what is wanted of it, where that is known better than by `services`.

    Of one that this process can't serve, what its manifest says is left empty.
    """
    version = services.catalog().version(ref)
    manifest = version.manifest if version is not None else None
    wish = wish or services.state.wishes.get(ref, Wish())
    standing = standing_of(services, ref)
    reason = services.catalog().withheld.get(ref) or why_unready(services, ref)
    return VersionInfo(
        version=str(ref.version),
        state=standing.state,
        ready=reason is None,
        reason=standing.reason if reason is None and standing.state is VersionState.LOADED else reason,
        description=manifest.description if manifest is not None else "",
        architecture=manifest.architecture.family if manifest is not None else "",
        digest=manifest.digest if manifest is not None else "",
        metrics=manifest.metrics if manifest is not None else {},
        pinned=wish.loading is Loading.PINNED,
        replicas=wish.replicas,
        precision=wish.precision,
        engines=list(standing.slots),
        resident_bytes=standing.num_bytes or None,
        backend=_backend(standing.execution),
    )


def _backend(execution: Execution | None) -> BackendInfo | None:
    if execution is None:
        return None
    return BackendInfo(
        name=execution.backend,
        precision=execution.precision,
        threads=execution.threads,
        reason=execution.reason,
        pending=execution.pending,
    )


def _model(model: Model, services: Services) -> ModelInfo:
    manifest = model.example.manifest
    return ModelInfo(
        name=model.name,
        task=manifest.task,
        input=manifest.input,
        content_types=list(media_types(manifest.input)),
        labels=manifest.labels,
        target=manifest.target,
        aliases={alias: str(version) for alias, version in model.aliases.items()},
        ready=model.champion is not None and why_unready(services, model.champion.ref) is None,
        versions=[version_info(version.ref, services) for version in model.versions.values()],
    )


def _broken(services: Services) -> list[BrokenInfo]:
    found = [
        BrokenInfo(model=entry.model, version=entry.version, reason=entry.reason) for entry in services.catalog().broken
    ]
    refused = [
        BrokenInfo(model=ref.model, version=str(ref.version), reason=reason)
        for ref, standing in services.fleet.view.versions.items()
        if standing.state is VersionState.FAILED and (reason := reason_of(standing))
    ]
    listed = {(entry.model, entry.version) for entry in found}
    lost = [
        BrokenInfo(model=ref.model, version=str(ref.version), reason=reason)
        for ref, reason in lost_champions(services).items()
        if (ref.model, str(ref.version)) not in listed
    ]
    state = services.state
    put_back = [
        BrokenInfo(model=version.ref.model, version=str(version.ref.version), reason=_NUMBER_DELETED)
        for version in services.catalog().unserved
        # Files that are still to be removed are none that were put back.
        if version.ref in state.deleted and version.ref not in state.to_remove and version.folder.exists()
    ]
    return [*found, *refused, *lost, *put_back]
