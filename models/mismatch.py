"""What to do about weights that are not those of the manifest's network, in words for their author."""

from collections.abc import Container, Mapping

import orjson

from models.checkpoint import WeightsMismatch, parameter_shapes
from models.manifest import Architecture
from models.renames import Shape, propose


def describe(
    mismatch: WeightsMismatch, given: Mapping[str, Shape], architecture: Architecture, *, is_renamed: bool
) -> str:
    """Every wrong name and shape, and the way out: renames where shapes propose them, else another config.

    `given` are the weights by the names that they have after renaming; `is_renamed`: whether their author renamed any,
    and knows how.
    """
    wanted = parameter_shapes(architecture)
    missing = {name: wanted[name] for name in mismatch.missing}
    unexpected = {name: given[name] for name in mismatch.unexpected}
    lines = [f"the weights are not those of the {architecture.family} network in the manifest"]
    lines += [f"  missing:     {name} {shape}" for name, shape in missing.items()]
    lines += [f"  unexpected:  {name} {shape}" for name, shape in unexpected.items()]
    lines += [f"  wrong shape: {line}" for line in mismatch.misshapen]
    # In the file's order, which is that of the layers; the lists above are sorted.
    proposal = {} if is_renamed else propose(_in_order(given, unexpected), _in_order(wanted, missing))
    if proposal:
        lines += [
            "By their shapes these belong together. Save this as a file, and name it with --rename FILE.json:",
            f"  {orjson.dumps(proposal).decode()}",
            "Layers that are alike are taken in their order, so compare an answer with your own network's.",
        ]
    elif missing and unexpected:
        lines.append(
            "Names that differ are brought to those of the family with --rename FILE.json, such as "
            '{"conv1.": "blocks.0.conv."}.'
        )
    settled = sum(name in proposal or name.rpartition(".")[0] + "." in proposal for name in unexpected)
    if mismatch.misshapen or not settled == len(missing) == len(unexpected):
        lines.append(
            "Wrong shapes, and parameters too many or too few, mean that the config describes another network: "
            "docs/checkpoints.md lists the keys and the parameter names of each family."
        )
    return "\n".join(lines)


def _in_order(shapes: Mapping[str, Shape], names: Container[str]) -> dict[str, Shape]:
    return {name: shape for name, shape in shapes.items() if name in names}
