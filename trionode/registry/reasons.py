"""Why something was refused: reason codes, the sentence of each, and the error that carries them.

Codes are those of docs/spec/registry.md §4-§11; they are stable and meant for programs. `SENTENCES` in
sentences.py says each in words, so a rule only names code, field, value and limit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NoReturn

import msgspec

from trionode.errors import TrionodeError
from trionode.registry.sentences import SENTENCES

LONGEST_SHOWN = 70
"""Characters of a refused value that are shown to a person."""


class Reason(StrEnum):
    """Reason codes of the registry."""

    CANNOT_DECRYPT = "CANNOT_DECRYPT"
    COMMAND_LENGTH = "COMMAND_LENGTH"
    COMMAND_TOO_MANY = "COMMAND_TOO_MANY"
    COMMAND_TYPE = "COMMAND_TYPE"
    COMPONENT_NAME_CHARS = "COMPONENT_NAME_CHARS"
    COMPONENT_NAME_DUPLICATE = "COMPONENT_NAME_DUPLICATE"
    COMPONENT_NAME_LENGTH = "COMPONENT_NAME_LENGTH"
    COMPONENT_NAME_MISSING = "COMPONENT_NAME_MISSING"
    COMPONENT_PREFIX_FLUX = "COMPONENT_PREFIX_FLUX"
    COMPONENT_PREFIX_ZEL = "COMPONENT_PREFIX_ZEL"
    COMPONENT_TOO_MANY = "COMPONENT_TOO_MANY"
    COMPOSE_EMPTY = "COMPOSE_EMPTY"
    COMPOSE_NOT_ARRAY = "COMPOSE_NOT_ARRAY"
    CONTACT_LENGTH = "CONTACT_LENGTH"
    CONTACT_TOO_MANY = "CONTACT_TOO_MANY"
    CONTACT_TYPE = "CONTACT_TYPE"
    CONTAINER_DATA_LENGTH = "CONTAINER_DATA_LENGTH"
    CONTAINER_DATA_SHORT = "CONTAINER_DATA_SHORT"
    CONTAINER_PORT_DECIMALS = "CONTAINER_PORT_DECIMALS"
    CONTAINER_PORT_RANGE = "CONTAINER_PORT_RANGE"
    CONTAINER_PORT_TYPE = "CONTAINER_PORT_TYPE"
    DATACENTER_OWNER = "DATACENTER_OWNER"
    DATACENTER_TYPE = "DATACENTER_TYPE"
    DESCRIPTION_LENGTH = "DESCRIPTION_LENGTH"
    DESCRIPTION_TYPE = "DESCRIPTION_TYPE"
    DOMAIN_COUNT = "DOMAIN_COUNT"
    DOMAIN_LENGTH = "DOMAIN_LENGTH"
    DOMAIN_TYPE = "DOMAIN_TYPE"
    ENV_LENGTH = "ENV_LENGTH"
    ENV_TOO_MANY = "ENV_TOO_MANY"
    ENV_TYPE = "ENV_TYPE"
    EXPIRE_INTERVAL = "EXPIRE_INTERVAL"
    EXPIRE_MAX = "EXPIRE_MAX"
    EXPIRE_MIN = "EXPIRE_MIN"
    EXPIRE_NOT_INTEGER = "EXPIRE_NOT_INTEGER"
    EXPIRE_TYPE = "EXPIRE_TYPE"
    GEO_LENGTH = "GEO_LENGTH"
    GEO_TOO_MANY = "GEO_TOO_MANY"
    GEO_TYPE = "GEO_TYPE"
    HASH_MISMATCH = "HASH_MISMATCH"
    HW_CPU_RANGE = "HW_CPU_RANGE"
    HW_CPU_TOTAL = "HW_CPU_TOTAL"
    HW_DECIMALS = "HW_DECIMALS"
    HW_HDD_RANGE = "HW_HDD_RANGE"
    HW_HDD_TOTAL = "HW_HDD_TOTAL"
    HW_RAM_RANGE = "HW_RAM_RANGE"
    HW_RAM_TOTAL = "HW_RAM_TOTAL"
    HW_TIER_RANGE = "HW_TIER_RANGE"
    HW_TIER_TOTAL = "HW_TIER_TOTAL"
    HW_TYPE = "HW_TYPE"
    INSTANCES_MAX = "INSTANCES_MAX"
    INSTANCES_MIN = "INSTANCES_MIN"
    MESSAGE_ARGUMENTS = "MESSAGE_ARGUMENTS"
    MESSAGE_SHAPE = "MESSAGE_SHAPE"
    MISSING_COMMON = "MISSING_COMMON"
    MISSING_COMPOSE = "MISSING_COMPOSE"
    MISSING_CONTACTS_GEO = "MISSING_CONTACTS_GEO"
    MISSING_ENTERPRISE = "MISSING_ENTERPRISE"
    MISSING_EXPIRE = "MISSING_EXPIRE"
    MISSING_FLAT_FIELDS = "MISSING_FLAT_FIELDS"
    MISSING_INSTANCES = "MISSING_INSTANCES"
    MISSING_NODES = "MISSING_NODES"
    MISSING_PORT_FIELDS = "MISSING_PORT_FIELDS"
    MISSING_VERSION = "MISSING_VERSION"
    NAME_CHARS = "NAME_CHARS"
    NAME_LENGTH = "NAME_LENGTH"
    NAME_PREFIX_FLUX = "NAME_PREFIX_FLUX"
    NAME_PREFIX_ZEL = "NAME_PREFIX_ZEL"
    NAME_RESERVED_SHARE = "NAME_RESERVED_SHARE"
    NAME_TAKEN = "NAME_TAKEN"
    NAME_TAKEN_ACTIVE = "NAME_TAKEN_ACTIVE"
    NAME_TAKEN_HASH_UNKNOWN = "NAME_TAKEN_HASH_UNKNOWN"
    NAME_TAKEN_LOCAL_LIST = "NAME_TAKEN_LOCAL_LIST"
    NAME_TYPE = "NAME_TYPE"
    NAME_WATCHTOWER = "NAME_WATCHTOWER"
    NODES_NEED_ENTERPRISE = "NODES_NEED_ENTERPRISE"
    NODES_TOO_MANY = "NODES_TOO_MANY"
    NODES_TYPE = "NODES_TYPE"
    NODE_LENGTH = "NODE_LENGTH"
    NUMBER_NOT_INTEGER = "NUMBER_NOT_INTEGER"
    NUMBER_TYPE = "NUMBER_TYPE"
    OWNER_TYPE = "OWNER_TYPE"
    PORT_BANNED = "PORT_BANNED"
    PORT_COUNT = "PORT_COUNT"
    PORT_DECIMALS = "PORT_DECIMALS"
    PORT_DUPLICATE = "PORT_DUPLICATE"
    PORT_RANGE = "PORT_RANGE"
    PORT_TOO_MANY = "PORT_TOO_MANY"
    PORT_TYPE = "PORT_TYPE"
    PRICE_USD_TOO_LOW = "PRICE_USD_TOO_LOW"
    REPOAUTH_LENGTH = "REPOAUTH_LENGTH"
    REPOAUTH_NEEDS_ENTERPRISE = "REPOAUTH_NEEDS_ENTERPRISE"
    REPOAUTH_TYPE = "REPOAUTH_TYPE"
    REPOTAG_LENGTH = "REPOTAG_LENGTH"
    RPC_BATCH_FAILED = "RPC_BATCH_FAILED"
    RPC_TXIDS_FAILED = "RPC_TXIDS_FAILED"
    SECRETS_LENGTH = "SECRETS_LENGTH"
    SECRETS_NEED_NODES = "SECRETS_NEED_NODES"
    SECRETS_TYPE = "SECRETS_TYPE"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    SIGNATURE_NOT_OWNER = "SIGNATURE_NOT_OWNER"
    SPEC_NOT_OBJECT = "SPEC_NOT_OBJECT"
    SPEC_NULL = "SPEC_NULL"
    STATICIP_TYPE = "STATICIP_TYPE"
    TIERED_HW_TYPE = "TIERED_HW_TYPE"
    TIERED_TYPE = "TIERED_TYPE"
    TIERED_VALUES_MISSING = "TIERED_VALUES_MISSING"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    UPDATE_COMPONENT_COUNT = "UPDATE_COMPONENT_COUNT"
    UPDATE_COMPONENT_NAME = "UPDATE_COMPONENT_NAME"
    UPDATE_DOWNGRADE = "UPDATE_DOWNGRADE"
    UPDATE_REPOTAG = "UPDATE_REPOTAG"
    VERSION_DECIMALS = "VERSION_DECIMALS"
    VERSION_NOT_ACTIVE = "VERSION_NOT_ACTIVE"
    VERSION_TYPE = "VERSION_TYPE"
    VERSION_UNKNOWN = "VERSION_UNKNOWN"


class Rejection(msgspec.Struct, frozen=True):
    """Why one thing was refused: what rule, where, what was found and what would have been allowed.

    `field` is a path such as `compose[0].ports[1]`, empty for the whole thing. `value` and `limit` are
    None where there is nothing to show. `note` adds a second sentence.
    """

    code: Reason
    field: str = ""
    value: Any = None
    limit: Any = None
    note: str = ""

    @property
    def sentence(self) -> str:
        """The refusal as one clear sentence for a person."""
        said = SENTENCES[self.code].format(
            field=self.field or "the value", value=shown(self.value), limit=self.allowed
        )
        return f"{said} {self.note}" if self.note else said

    @property
    def allowed(self) -> str:
        """The limit in words; a text is one already."""
        return self.limit if isinstance(self.limit, str) else shown(self.limit)

    def inside(self, path: str) -> Rejection:
        """The same, seen from outside the part it was found in: `ports` -> `compose[0].ports`."""
        field = f"{path}.{self.field}" if self.field else path
        return Rejection(self.code, field, self.value, self.limit, self.note)

    def as_document(self) -> dict[str, Any]:
        """For answers of the API and `--json` of the command line."""
        return {
            "code": str(self.code),
            "field": self.field,
            "value": None if self.value is None else shown(self.value),
            "limit": None if self.limit is None else self.allowed,
            "sentence": self.sentence,
        }


class Rejected(TrionodeError):
    """Raised by a rule; `str` is one clear sentence, `rejection` the same as data, `reason` its code."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.sentence, code=rejection.code)
        self.rejection = rejection

    @property
    def reason(self) -> Reason:
        return self.rejection.code

    def inside(self, path: str) -> Rejected:
        """The same refusal, seen from outside the part `path` it was found in."""
        return Rejected(self.rejection.inside(path))


def reject(reason: Reason, field: str = "", value: Any = None, limit: Any = None, note: str = "") -> NoReturn:
    """Refuse: the one way rules of this room say no."""
    raise Rejected(Rejection(reason, field, value, limit, note))


def shown(value: Any) -> str:
    """A value as a person should see it: JSON-like and short."""
    if isinstance(value, str):
        text = f'"{value}"'
    elif value is None:
        text = "nothing"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
