"""The kinds for credits: Resourcecredit (a price) and Usercredit (an account).

Decides how a price is written; amounts are exact integers of micro-credits.
It never charges anyone.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PlainSerializer, PlainValidator

from dorabatch.resources.document import Document, EmptySpec, Part, ZonedMetadata
from dorabatch.resources.names import ModelName
from dorabatch.resources.quantity import (
    read_credit_number,
    read_moment,
    write_microcredits,
    write_moment,
)


class PriceMetadata(ZonedMetadata):
    """A price is named like the product it is for."""

    name: ModelName


class PerTime(Part):
    """The price of one GPU for an hour."""

    microcredits_per_hour: Annotated[
        int,
        PlainValidator(read_credit_number),
        PlainSerializer(write_microcredits),
        Field(alias="hour"),
    ]


class Credit(Part):
    """The price."""

    per: PerTime


class Annotations(Part):
    """For reports only."""

    price_unit: Annotated[str | None, Field(alias="priceUnit", max_length=64)] = None


class ResourcecreditSpec(Part):
    """A product and its price; no product_name means metadata.name.

    `valid_from`: from when on it holds; absent is at once.
    """

    product_name: ModelName | None = None
    valid_from: Annotated[
        datetime | None,
        PlainValidator(read_moment),
        PlainSerializer(write_moment),
        Field(alias="validFrom"),
    ] = None
    credit: Credit
    annotations: Annotations | None = None


class Resourcecredit(Document):
    """What a GPU model costs in a zone."""

    rank: ClassVar[int] = 80

    kind: Literal["Resourcecredit"]
    metadata: PriceMetadata
    spec: ResourcecreditSpec

    @property
    def product_name(self) -> str:
        """The model that the price is for."""
        return self.spec.product_name or self.metadata.name

    @property
    def microcredits_per_hour(self) -> int:
        """The price of one GPU for an hour."""
        return self.spec.credit.per.microcredits_per_hour

    @property
    def price_unit(self) -> str | None:
        """The word shown after amounts in reports."""
        annotations = self.spec.annotations
        return None if annotations is None else annotations.price_unit


class Usercredit(Document):
    """A user's account in a zone; the totals are kept by the daemon."""

    rank: ClassVar[int] = 85

    kind: Literal["Usercredit"]
    metadata: ZonedMetadata
    spec: EmptySpec | None = None
