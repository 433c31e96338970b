"""The shape every kind shares: apiVersion, kind, metadata, spec.

Models are frozen, refuse unknown fields and convert nothing silently.
This module knows no kind and never reads text.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from dorabatch.resources.names import Name, WorkloadName

API_VERSIONS = ("v1",)


class Part(BaseModel):
    """A piece of a document."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True
    )


def problem_at(field: str, sentence: str) -> PydanticCustomError:
    """A problem of a whole mapping that a field in it shows best, such as `a.b`."""
    return PydanticCustomError("at", "{sentence}", {"at": field, "sentence": sentence})


def fold_group(data: Any) -> Any:
    """Read `group` as `workspace`; both are accepted unless they differ."""
    if not isinstance(data, dict) or "group" not in data:
        return data
    folded = dict(data)
    group = folded.pop("group")
    workspace = folded.get("workspace")
    if workspace is None:
        folded["workspace"] = group
    elif group is not None and group != workspace:
        raise problem_at(
            "group",
            f"group {group!r} and workspace {workspace!r} name the same thing and "
            "differ; keep one of them",
        )
    return folded


class Metadata(Part):
    """The name of an object that lives everywhere."""

    name: Name


class ZonedMetadata(Metadata):
    """Name and zone; no zone is the user's default zone."""

    zone: Name | None = None


class WorkspacedMetadata(ZonedMetadata):
    """Name, zone and workspace; what is absent is the user's default."""

    workspace: Name | None = None
    _fold_group = model_validator(mode="before")(fold_group)


class WorkloadMetadata(WorkspacedMetadata):
    """As above; the name is never a plain number."""

    name: WorkloadName


class EmptySpec(Part):
    """A kind without properties."""


class Document(Part):
    """One document of a manifest."""

    rank: ClassVar[int] = 0
    """Documents of a file are applied by rank: what is named goes first."""

    api_version: Annotated[str, Field(alias="apiVersion")]
    kind: str
    metadata: Metadata

    @property
    def name(self) -> str:
        """metadata.name"""
        return self.metadata.name

    @property
    def zone(self) -> str | None:
        """metadata.zone; None = the default zone, or a kind without zones."""
        metadata = self.metadata
        return metadata.zone if isinstance(metadata, ZonedMetadata) else None

    @property
    def workspace(self) -> str | None:
        """metadata.workspace; None = the default, or a kind without workspaces."""
        metadata = self.metadata
        return metadata.workspace if isinstance(metadata, WorkspacedMetadata) else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was accepted and is likely not what the writer thinks."""
        return ()
