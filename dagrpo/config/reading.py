"""Reading of configuration: closed models, YAML and JSON files, and the sentence for each mistake."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dagrpo.errors import UserError
from dagrpo.files.text_files import check_whole

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]


class Strict(BaseModel):
    """Immutable, and closed: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


Spec = TypeVar("Spec", bound=Strict)


def parse(model: type[Spec], data: Any, where: str) -> Spec:
    """Validate plain data against a spec.

    Raises:
        UserError: with one line for each key that is unknown (and the nearest known one), missing or out of range.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected a mapping of keys to values, found {type(data).__name__}")
    check_whole(data, where)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {sentences(error, model)}") from None


def load(model: type[Spec], path: Path) -> Spec:
    """Read a YAML or JSON file into a spec. Raises :class:`UserError` like :func:`parse`."""
    return parse(model, read_settings(path), str(path))


def read_settings(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a configuration file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML or JSON: {error}") from None


def merge(common: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(common)
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), dict):
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def nearest(word: str, known: list[str]) -> str:
    """A hint such as ``; did you mean 'delta'?``, or the known words where none is near."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def sentences(error: ValidationError, model: type[BaseModel]) -> str:
    return "; ".join(_sentence(detail, model) for detail in error.errors())


_TAGS = {"mini", "mirror", "words", "smollm2", "gguf", "hub", "warmed", "torch", "vllm", "vllm_server"}


def _sentence(detail: Any, model: type[BaseModel]) -> str:
    path = [part for part in detail["loc"] if not (isinstance(part, str) and part in _TAGS)]
    where = ".".join(str(part) for part in path) or "configuration"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {where!r}{nearest(str(path[-1]), _keys(model, detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return f"key {where!r} is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {message} (found {detail['input']!r})" if path else message


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that the schema knows at a place; walks the JSON schema, so that unions need no special case."""
    schema = model.model_json_schema()
    found: Any = schema
    for part in path:
        found = _resolve(found, schema)
        if "discriminator" in found:
            found = schema["$defs"][found["discriminator"]["mapping"][part].rsplit("/", 1)[-1]]
        else:
            entries = [found.get("additionalProperties"), *found.get("patternProperties", {}).values()]
            found = found.get("properties", {}).get(part) or next(
                (entry for entry in entries if isinstance(entry, dict)), {}
            )
    return list(_resolve(found, schema).get("properties", {}))


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node
