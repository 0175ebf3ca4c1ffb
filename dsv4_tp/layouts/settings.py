"""What config.json says of MLX's quantisation, held against what the files show.

The files decide: a format follows from the shapes in their headers. But a setting that says
otherwise means that one of the two is not what it seems, so it is an error.
"""

from collections.abc import Iterable, Iterator, Mapping

from dsv4_tp.errors import ModelError
from dsv4_tp.layouts.formats import PLAIN, Format
from dsv4_tp.layouts.names import WEIGHT, Reading, all_readings
from dsv4_tp.layouts.source import Source, is_unpacked
from dsv4_tp.layouts.tables import LAYOUTS
from dsv4_tp.modelspec import MlxQuantization, MlxSetting, ModelSpec, Stored, Tensor, contract


def disagreements(spec: ModelSpec, reading: Reading, sources: tuple[Source, ...]) -> Iterator[str]:
    """A complaint for each setting that names no module, or another format than the files show."""
    stated = spec.mlx_quantization
    if stated is None:
        return
    paths = _resolve(spec, (reading, *_others()), stated)
    yield from (_stranger(key) for key in stated.modules if key not in paths)
    by_path = {source.tensor.name: source for source in sources}
    said = {paths[key] for key in stated.modules if key in paths}
    for key, setting in stated.modules.items():
        source = by_path.get(paths.get(key, ""))
        if source is not None:
            yield from _compare(source, setting, f"config.json's quantization setting {key!r}")
    for path, source in by_path.items():
        if path not in said and source.format.quantised and not source.format.native:
            yield from _compare(source, stated.default, "config.json's quantization")


def stated_formats(spec: ModelSpec) -> Mapping[str, Format]:
    """The format of each module's tensor, by its path, as config.json alone lets expect it.

    Raises:
        ModelError: a setting names no module.
    """
    stated = spec.mlx_quantization
    if stated is None:
        return {}
    paths = _resolve(spec, _others(), stated)
    for key in stated.modules:
        if key not in paths:
            raise ModelError(f"{_stranger(key)}; take config.json and files of one revision")
    own = {paths[key]: setting for key, setting in stated.modules.items()}
    modules = (tensor for tensor in contract(spec, mtp=True) if _is_module(tensor))
    settings = {tensor: own.get(tensor.name, stated.default) for tensor in modules}
    return {
        tensor.name: _format(setting)
        for tensor, setting in settings.items()
        if setting is not None and tensor.shape[-1] % setting.group_size == 0
    }


def _is_module(tensor: Tensor) -> bool:
    """Whether MLX's tools quantise the tensor if not told otherwise."""
    matrix = tensor.stored is Stored.BF16 and len(tensor.shape) > 1
    return matrix and not is_unpacked(tensor.name)


def _stranger(key: str) -> str:
    return f"config.json's quantization setting {key!r} names no module of this model"


def _format(setting: MlxSetting | None) -> Format:
    return PLAIN if setting is None else Format(setting.mode, setting.bits, setting.group_size)


def _compare(source: Source, setting: MlxSetting | None, where: str) -> Iterator[str]:
    said = _format(setting)
    if said != source.format:
        yield f"{source.weights[0]} is stored as {source.format}, but {where} says {said}"


def _others() -> Iterator[Reading]:
    return (reading for layout in LAYOUTS for reading in all_readings(layout))


def _resolve(
    spec: ModelSpec, readings: Iterable[Reading], stated: MlxQuantization
) -> Mapping[str, str]:
    """The path of our tensor for each module that the settings name, by whichever layout's names.

    Converters key them by the paths of their own modules or by those of the files.
    """
    wanted, found = set(stated.modules), dict[str, str]()
    for reading in readings:
        if wanted <= found.keys():
            break
        for module, path in _modules(spec, reading):
            if module in wanted:
                found.setdefault(module, path)
    return found


def _modules(spec: ModelSpec, reading: Reading) -> Iterator[tuple[str, str]]:
    """(module in the files, path of our tensor) by one reading; also where pieces lie together."""
    for tensor in contract(spec, mtp=True):
        names = reading.names(tensor, spec)
        if names is not None:
            yield from ((name.removesuffix(WEIGHT), tensor.name) for name in names.weights)
