"""The routes of the OpenAPI document, by its tags: parameters, form fields, answers."""

from collections.abc import Iterator
from typing import Any

import orjson

from nextarget.web.routes.documents import openapi_document
from tests.reference.markdown import choice, code, prose, table

_METHODS = ("get", "post", "put", "patch", "delete")
Row = tuple[str, ...]


def blocks() -> dict[str, str]:
    return _Document(orjson.loads(openapi_document())).blocks()


class _Document:
    """The OpenAPI document. A reference is resolved when it is read."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def blocks(self) -> dict[str, str]:
        operations = list(self._operations())
        overview = (
            (
                f"[`{title}`](#{_anchor(title)})",
                operation["summary"],
                "access token" if _is_protected(operation) else "",
            )
            for title, operation in operations
        )
        chapters = []
        for tag in self._document["tags"]:
            of_tag = [self._chapter(title, each) for title, each in operations if tag["name"] in each["tags"]]
            chapters.append("\n\n".join([f"## {tag['description'].rstrip('.')}", *of_tag]))
        return {
            "about": self._document["info"]["description"].strip(),
            "overview": table(["route", "what it does", "needs"], overview),
            "routes": "\n\n".join(chapters),
        }

    def _operations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Title and operation, with the parameters that all methods of the path share."""
        for path, item in self._document["paths"].items():
            for method in _METHODS:
                if method in item:
                    shared = item.get("parameters", [])
                    operation = item[method]
                    yield (
                        f"{method.upper()} {path}",
                        operation | {"parameters": shared + operation.get("parameters", [])},
                    )

    def _resolved(self, part: Any) -> Any:
        while isinstance(part, dict) and "$ref" in part:
            found: Any = self._document
            for name in part["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            part = found | {name: value for name, value in part.items() if name != "$ref"}
        return part

    def _chapter(self, title: str, operation: dict[str, Any]) -> str:
        summary = f"{operation['summary']}."
        if _is_protected(operation):
            summary += " Needs an access token: `Authorization: Bearer TOKEN`."
        parts = [
            f"### {title}",
            summary,
            prose(operation.get("description", "")),
            self._parameters(operation["parameters"]),
            *self._form(operation.get("requestBody")),
            self._answers(operation["responses"]),
            *self._fields_of_answers(operation["responses"]),
        ]
        return "\n\n".join(part for part in parts if part)

    def _parameters(self, parameters: list[Any]) -> str:
        rows = []
        for parameter in map(self._resolved, parameters):
            need = "required" if parameter.get("required") else ""
            schema = self._resolved(parameter["schema"])
            what = _sentences(parameter.get("description"), _words(schema))
            rows.append((code(parameter["name"]), parameter["in"], need, what))
        return table(["parameter", "in", "", "what it is"], rows) if rows else ""

    def _form(self, body: Any) -> Iterator[str]:
        for media_type, content in self._resolved(body or {}).get("content", {}).items():
            schema = self._resolved(content["schema"])
            required = schema.get("required", [])
            rows = []
            for name, field in self._properties(schema):
                need = "required" if name in required else ""
                rows.append((code(name), need, _sentences(field.get("description"), _words(field))))
            yield f"The body is `{media_type}`:\n\n" + table(["field", "", "what it is"], rows)

    def _answers(self, responses: dict[str, Any]) -> str:
        """A table of answers. Statuses with the same description share a row."""
        rows: dict[tuple[str, str], list[str]] = {}
        for status, reference in responses.items():
            response = self._resolved(reference)
            kinds = ", ".join(map(code, response.get("content", {})))
            rows.setdefault((kinds, response["description"].strip()), []).append(_status(status))
        return table(["answer", "body", "what it says"], [(", ".join(each), *row) for row, each in rows.items()])

    def _fields_of_answers(self, responses: dict[str, Any]) -> Iterator[str]:
        for status, response in responses.items():
            if status.startswith("2"):
                content = self._resolved(response).get("content", {}).get("application/json", {})
                if rows := list(self._fields(content.get("schema", {}))):
                    yield f"The JSON of {status}:\n\n" + table(["member", "type", "what it is"], rows)

    def _fields(self, schema: Any, inside: str = "") -> Iterator[Row]:
        """The members of an object. A member inside another one is `outer.inner`, and inside a list `list[].inner`."""
        for name, field in self._properties(self._resolved(schema)):
            yield code(inside + name), _type(field), _sentences(field.get("description"), _words(field))
            yield from self._fields(field, f"{inside}{name}.")
            yield from self._fields(field.get("items", {}), f"{inside}{name}[].")

    def _properties(self, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The members of a schema. A member whose schema is `false` is forbidden, and left out."""
        for name, field in schema.get("properties", {}).items():
            if field is not False:
                yield name, self._resolved(field)


def _anchor(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _is_protected(operation: dict[str, Any]) -> bool:
    return bool(operation.get("security"))


def _status(status: str) -> str:
    return "any other" if status == "default" else status


def _type(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return "string" if isinstance(schema["const"], str) else ""
    kinds = schema.get("type", "string" if "enum" in schema else "")
    name = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return f"{name}, {schema['format']}" if "format" in schema else name


def _words(schema: dict[str, Any]) -> str:
    """The values of a schema if they are few, its default and its example."""
    parts = []
    if "const" in schema:
        parts.append(f"Always {code(schema['const'])}.")
    if words := [word for word in schema.get("enum", []) if word != ""]:
        parts.append(f"One of {choice(words)}." if len(words) > 1 else f"Always {code(words[0])}.")
    if "default" in schema:
        parts.append(f"Unless given: {code(schema['default'])}.")
    if "example" in schema:
        parts.append(f"Example: {code(schema['example'])}.")
    return " ".join(parts)


def _sentences(*texts: str | None) -> str:
    """The texts as joined sentences, with full stops."""
    told = [text.strip() for text in texts if text]
    return " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in told)
