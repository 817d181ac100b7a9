"""From YAML files and overrides to one validated `Settings`, or an error that says where and what."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from features.contract.errors import ConfigError
from features.contract.paths import Location
from features.contract.settings import Settings

Document = dict[str, Any]


def load_settings(
    config: str,
    profile: str = "laptop",
    raw: str | None = None,
    lake: str | None = None,
    overrides: Sequence[str] = (),
) -> Settings:
    """Lay profile, file and overrides over each other, make paths absolute, validate.

    A resolved file (written by `resolved_yaml`) loads to the same settings.
    """
    text = _read(_find(config), config)
    document = _merge(_profile(profile), _parse(text, config))
    spoken_of = {}
    for override in overrides:
        before, document = document, _merge(document, _parse_override(override))
        spoken_of[override] = _numbered(before, override.partition("=")[0].split("."))
    for key, value in (("raw", raw), ("lake", lake)):
        if value is not None:
            document[key] = value
    _make_absolute(document)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_explain(error, text, config, spoken_of)) from None
    return Settings.model_validate(_interpolate(settings.model_dump(mode="json"), settings.lake))


def resolved_yaml(settings: Settings) -> str:
    """The whole configuration as one file that needs no profile, no override and no defaults."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def config_digest(*sections: BaseModel | None) -> str:
    """SHA-256 over the given sections, whatever the order of keys in the file was."""
    parts = [section and section.model_dump(mode="json") for section in sections]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _find(config: str) -> Location:
    """A path or URI; or the name of a configuration shipped in the wheel (`conf/demo.yaml`)."""
    location = Location.parse(config)
    if location.exists() and not location.filesystem.isdir(location.path):
        return location
    shipped = resources.files("conf") / config.removeprefix("conf/")
    if shipped.is_file():
        return Location.parse(str(shipped))
    what = "a folder, expected a YAML file" if location.exists() else "no such file"
    raise ConfigError(f"{config or 'the configuration'}: {what}")


def _read(location: Location, config: str) -> str:
    try:
        return location.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{config}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{config}: cannot be read ({error.strerror or type(error).__name__})") from None


def _profile(name: str) -> Document:
    folder = resources.files("conf") / "profiles"
    shipped = folder / f"{name}.yaml"
    if not shipped.is_file():
        known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())
        raise ConfigError(f"--profile {name}: expected one of {', '.join(known)}")
    return _parse(shipped.read_text(), f"conf/profiles/{name}.yaml")


def _parse(text: str, name: str) -> Document:
    try:
        document = yaml.safe_load(text) or {}
        _refuse_twins(yaml.compose(text, Loader=yaml.SafeLoader), name)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: expected a mapping of keys to values at the top")
    return document


def _refuse_twins(node: yaml.Node | None, name: str) -> None:
    """YAML itself lets the second of two equal keys replace the first in silence."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twins(item, name)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if (first := lines.setdefault(str(key.value), line)) != line:
                raise ConfigError(f"{name}:{line}: {key.value}: this key stands already in line {first}")
            _refuse_twins(value, name)


def _parse_override(override: str) -> Document:
    """`a.b=3` is {"a": {"b": 3}}; `tasks.0.model.epochs=5` or `tasks.NAME.model.epochs=5` reaches into a list."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key=value, such as launch.ranks=2")
    try:
        document: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {value!r} is not a YAML value") from None
    for part in reversed(key.split(".")):
        document = {part: document}
    result: Document = document
    return result


def _merge(base: Document, over: Document) -> Document:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merge_value(merged.get(key), value)
    return merged


def _merge_value(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return _merge(below, above)
    if isinstance(below, list) and isinstance(above, dict):
        changed = {_place(below, key): value for key, value in above.items()}
        if max(changed) >= len(below):
            raise ConfigError(f"--set: item {max(changed)} of a list of {len(below)}; they count from 0")
        return [_merge_value(item, changed[i]) if i in changed else item for i, item in enumerate(below)]
    return above


def _place(items: list[Any], key: str) -> int:
    """An item of a list by its number or its `name`."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if key in names:
        return names.index(key)
    if not key.isdigit():
        known = ", ".join(name for name in names if name) or f"0 to {len(items) - 1}"
        raise ConfigError(f"--set: no item {key} in a list; expected one of {known}")
    return int(key)


def _make_absolute(document: Document) -> None:
    for key in ("raw", "lake"):
        if isinstance(document.get(key), str):
            document[key] = Location.parse(document[key]).uri


def _interpolate(value: Any, lake: str) -> Any:
    """`{lake}` and `{lake_path}` in a string, defaults included, become the lake's URI and its path; what
    should lie beside a lake on this machine becomes null where the lake is on HDFS."""
    if isinstance(value, dict):
        return {key: _interpolate(item, lake) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolate(item, lake) for item in value]
    if isinstance(value, str):
        if "{lake_path}" in value and Location(lake).on_hdfs:
            return None
        return value.replace("{lake}", lake).replace("{lake_path}", Location(lake).path)
    return value


def _explain(error: ValidationError, text: str, config: str, overrides: Mapping[str, str]) -> str:
    lines = [_explain_one(dict(item), text, config, overrides) for item in error.errors()]
    return "\n".join(lines)


def _numbered(node: Any, keys: Sequence[str]) -> str:
    """The path of these keys with items of lists by their number, as pydantic names them; `node` is what an
    override was laid over, so that its lists have the items."""
    path = []
    for key in keys:
        if isinstance(node, list):
            place = _place(node, key)
            path.append(str(place))
            node = node[place]
        else:
            path.append(key)
            node = node.get(key) if isinstance(node, dict) else None
    return ".".join(path)


def _explain_one(item: dict[str, Any], text: str, config: str, overrides: Mapping[str, str]) -> str:
    """`overrides` are the words of each --set, and the path that it speaks of."""
    # The branch of a union that pydantic took, "(range)", is no key of the file.
    keys = tuple(key for key in item["loc"] if not str(key).startswith("("))
    path = ".".join(map(str, keys))
    # Where a file and an override both speak of a key, the override had the last word.
    blamed = next((f"--set {words}" for words, of in overrides.items() if f"{of}.".startswith(f"{path}.")), None)
    where = f"{blamed or f'{config}:{_line_of(text, keys)}'}: {path or 'the file'}"
    if item["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(keys[-1]), _known_keys(keys[:-1]), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"{where}: unknown key{hint}"
    if item["type"] == "missing":
        return f"{where}: this key is needed and is not there"
    found = "" if isinstance(item["input"], dict) else f", not {item['input']!r}"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}{found}"


def _known_keys(keys: tuple[str | int, ...]) -> list[str]:
    """The fields of the section that `keys` lead to, found in the settings' JSON schema."""
    schema = Settings.model_json_schema()
    node: Any = schema
    for key in keys:
        node = _descend(schema, node)
        node = node.get("items", {}) if isinstance(key, int) else node.get("properties", {}).get(key, {})
    return list(_descend(schema, node).get("properties", {}))


def _descend(schema: Document, node: Document) -> Document:
    """Follow `$ref`, looking through `anyOf` for the one that is an object or a list."""
    for option in node.get("anyOf", [node]):
        if "$ref" in option:
            found: Document = schema["$defs"][option["$ref"].split("/")[-1]]
            return found
        if option.get("type") in ("object", "array"):
            return dict(option)
    return node


def _line_of(text: str, keys: tuple[str | int, ...]) -> int:
    """The line of the deepest of these keys that the file itself has."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for key in keys:
        pair = _child(node, key)
        if pair is None:
            break
        line, node = pair
    return line


def _child(node: yaml.Node | None, key: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                return name.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None
