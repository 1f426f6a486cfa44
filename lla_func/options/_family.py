"""A family of options: a frozen dataclass that checks itself."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from lla_func.options._kinds import Kind


def option(default: Any, kind: Kind, *flags: str, help: str) -> Any:
    """A field of a family.

    Args:
        default: where it is None, None is always allowed.
        kind: what its value may be.
        flags: of the command.
        help: for the docstrings of functions; the command's help shows what stands before the first full stop.
    """
    return field(default=default, metadata={"kind": kind, "help": help, "flags": flags})


def brief(help: str) -> str:
    """The first sentence of a help, without its full stop."""
    return help.split(". ")[0].removesuffix(".")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Options that belong together; making one checks each of them, then :meth:`agree` what they are together."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                self._set(each.name, each.metadata["kind"].check(each.name, value))
        self.agree()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def agree(self) -> None:
        """Raises a ValueError where options contradict each other."""

    def asdict(self) -> dict[str, Any]:
        """The options by name; unlike the function of dataclasses, without copies of what they hold."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
