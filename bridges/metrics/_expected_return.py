"""The expected return of a policy in an environment of Gymnasium."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bridges.metrics._guard import Guard
from bridges.metrics._metric import Metric
from bridges.models import Task
from lla_func.errors import flag, positive_int, seed_number
from lla_func.objective import Batch, Objective

LONGEST = 100_000
"""The most steps of an episode, for environments that never end."""


class ExpectedReturn(Metric):
    """The mean return of a policy over episodes, with the standard error over episodes.

    All points of a landscape meet the same episodes: the environment, and a policy that draws its actions, start from
    the same seeds (common random numbers), so that differences between points are those of the policies. There are
    landscapes, point by point, but no derivatives.

    Args:
        environment: of Gymnasium, its name for ``gymnasium.make``, or a function that makes one. It is reset in each
            episode.
        episodes: how many.
        seed: of the first; the others follow.
        policy: maps the model's output for one observation to an action of the environment. By default the largest of
            the outputs where actions are discrete, else the output within the bounds of the actions.
        draws: whether actions are drawn with the outputs as logits instead, where they are discrete.
        steps: the most of an episode.

    Raises:
        ImportError: the environment is given by name, and Gymnasium is not installed.
        TypeError, ValueError: the environment has no ``reset`` and ``step``, or a number is wrong.

    Example:
        >>> class Walk:
        ...     # the position is the sum of the actions; the farther to the right, the better
        ...     def reset(self, seed=None):
        ...         self.place = float(seed % 2)
        ...         return np.array([self.place], dtype=np.float32), {}
        ...     def step(self, action):
        ...         self.place += float(action[0])
        ...         return np.array([self.place], dtype=np.float32), self.place, self.place > 3, False, {}
        >>> metric = ExpectedReturn(Walk(), episodes=2, policy=lambda output: output.numpy())
        >>> model = nn.Linear(1, 1)
        >>> _ = nn.init.ones_(model.weight), nn.init.ones_(model.bias)
        >>> metric(model)
        10.5
    """

    def __init__(
        self,
        environment: Any,
        episodes: int = 10,
        *,
        seed: int = 0,
        policy: Callable[[Tensor], Any] | None = None,
        draws: bool = False,
        steps: int = LONGEST,
        device: Any = "cpu",
    ) -> None:
        super().__init__(device=device)
        self.environment = _made(environment)
        self.episodes = positive_int("episodes", episodes)
        self.seed = seed_number("seed", seed)
        if policy is not None and not callable(policy):
            raise TypeError(f"policy={policy!r} cannot be called; pass a function of the model's output")
        self.policy = policy
        self.draws = flag("draws", draws)
        self.steps = positive_int("steps", steps)
        if draws and policy is not None:
            raise ValueError(
                "draws=True is for the default policy; let policy= draw by itself, or leave it out"
            )
        discrete = hasattr(getattr(self.environment, "action_space", None), "n")
        if draws and not discrete:
            raise ValueError("draws=True needs an environment with discrete actions")

    @property
    def batches(self) -> Iterable[Batch]:
        """The seeds of the episodes."""
        return [torch.arange(self.seed, self.seed + self.episodes)]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean return over the episodes of some seeds."""
        return self._returns(model, batch).mean()

    def objective(self, model: nn.Module, **options: Any) -> Objective:
        """The expected return as a function of theta."""
        found = super().objective(model, **options)
        # Point by point: what happens in an environment cannot be recorded.
        return found._replace(
            adapt=found.adapt or (lambda theta: found.loss),
            adapt_outputs=found.adapt_outputs or (lambda theta: found.outputs),  # type: ignore[return-value, arg-type]
        )

    def _parts(self) -> tuple[Task, Task] | None:
        return self._returns, lambda model, judged: judged[0].mean()

    def _per_sample(self, guard: Guard) -> Callable[[Any, Batch], Any] | None:
        return lambda returns, seeds: returns

    def _returns(self, model: nn.Module, seeds: Tensor) -> Tensor:
        """The return of each episode, [E] float64."""
        device = torch.device(self.device)
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        returns = []
        with torch.no_grad():
            for seed in seeds.tolist():
                generator = torch.Generator().manual_seed(seed)
                observation, _ = self.environment.reset(seed=seed)
                total = 0.0
                for _ in range(self.steps):
                    seen = torch.as_tensor(observation, device=device)
                    seen = seen.to(dtype) if seen.is_floating_point() else seen
                    action = self._action(model(seen[None])[0], generator)
                    observation, reward, terminated, truncated, _ = self.environment.step(action)
                    total += float(reward)
                    if terminated or truncated:
                        break
                returns.append(total)
        return torch.tensor(returns, dtype=torch.float64, device=device)

    def _action(self, output: Tensor, generator: torch.Generator) -> Any:
        if self.policy is not None:
            return self.policy(output)
        space = getattr(self.environment, "action_space", None)
        if hasattr(space, "n"):
            first = int(getattr(space, "start", 0))
            if not self.draws:
                return first + int(output.argmax())
            chances = output.double().cpu().softmax(-1)
            return first + int(torch.multinomial(chances, 1, generator=generator))
        action = output.cpu().numpy()
        if space is None:
            return action
        return np.clip(action, space.low, space.high).astype(space.dtype)


def _made(environment: Any) -> Any:
    """The environment that is given, by whichever way."""
    if isinstance(environment, str):
        try:
            import gymnasium
        except ImportError as error:
            raise ImportError(
                f"environment={environment!r} is a name for gymnasium.make, and gymnasium is not installed; "
                "pip install 'lla-func[gymnasium]'"
            ) from error
        environment = gymnasium.make(environment)
    elif callable(environment) and not hasattr(environment, "step"):
        environment = environment()
    if not (hasattr(environment, "reset") and hasattr(environment, "step")):
        raise TypeError(
            f"environment is of type {type(environment).__name__}; pass an environment of gymnasium, its name, or a "
            "function that makes one"
        )
    return environment
