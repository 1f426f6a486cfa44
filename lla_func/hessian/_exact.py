"""What an operator knows of its trace without products: exactly, or that of a matrix close to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from lla_func.errors import names
from lla_func.graph import RecordingError
from lla_func.hessian._shares import Shares, shares
from lla_func.hessian._split import RefusedError, Split, composed, piecewise
from lla_func.objective import Objective
from lla_func.spectrum import Estimate, Operator

Parameters = str | Iterable[str] | None
Make = Callable[[Objective, tuple[int, ...] | None], Split]


class Answer(NamedTuple):
    """The shares of a trace, or None and why there are none."""

    shares: Shares | None
    why: str = ""


def exact_shares(objective: Objective, make: Make, chosen: tuple[int, ...] | None = None) -> Answer:
    """The shares of the trace under a split of the loss, where there is such a split and it can be recorded."""
    try:
        return Answer(shares(objective, make(objective, chosen)))
    except RefusedError as refusal:
        return Answer(None, str(refusal))
    except RecordingError as error:
        return Answer(None, f"the loss cannot be recorded: {error}")


def patterns_of(parameters: Parameters) -> tuple[str, ...] | None:
    """The patterns as a tuple, which can be read any number of times."""
    if parameters is None:
        return None
    return names("parameters", parameters, otherwise=", or None for all parameters")


def indices(objective: Objective, parameters: Parameters) -> tuple[int, ...] | None:
    """The indices of the parameters that match, None for all."""
    return None if parameters is None else objective.layout.matching(names("parameters", parameters))


def estimate(found: Shares, parameters: Iterable[int] | None = None) -> Estimate:
    """The trace, or the part of some parameters, with its errors; "signs" where random signs stood for a large root."""
    value, error, over_data = found.of(None if parameters is None else [*parameters])
    return Estimate(value, error, over_data, method="signs" if error else "exact")


def with_trace_of_hessian(
    operator: Operator, objective: Objective, parameters: Parameters, nearby: Callable[[], Operator]
) -> Operator:
    """The Hessian with what is known of its trace: all of it, or that of the Gauss-Newton matrix near to it."""
    chosen = indices(objective, parameters)

    def exact() -> Estimate | None:
        found = exact_shares(objective, piecewise, chosen).shares
        return None if found is None else estimate(found)

    def near() -> tuple[Operator, Estimate] | None:
        found = exact_shares(objective, composed, chosen).shares
        return None if found is None else (nearby(), estimate(found))

    return operator._replace(exact_trace=exact, nearby=near if objective.criterion is not None else None)


def with_trace_of_ggn(operator: Operator, objective: Objective, parameters: Parameters) -> Operator:
    """The Gauss-Newton matrix with its trace."""
    chosen = indices(objective, parameters)

    def exact() -> Estimate | None:
        found = exact_shares(objective, composed, chosen).shares
        return None if found is None else estimate(found)

    return operator._replace(exact_trace=exact)
