"""Lanczos: a symmetric operator seen from a start vector is a small tridiagonal matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lla_func._torch import inner, uncast
from lla_func.errors import flag, instance, one_of, positive_int, usable_device
from lla_func.spectrum._operator import Dot, Operator
from lla_func.spectrum._probes import drawn_for, generator_from

__all__ = [
    "Tridiagonal",
    "apply",
    "check_operator",
    "check_vectors",
    "coefficients",
    "dot_of",
    "inner",
    "lanczos",
    "orthogonalize",
    "rows_per_block",
    "run",
    "tridiagonal_matrix",
]

COLUMNS = 2**15
"""Elements of each vector of a basis that are multiplied at a time: float32 sums of more of them lose bits."""
PASSES = 3
"""Two are enough but for vectors that lie in the span to rounding, which a third one shows."""


class Tridiagonal(NamedTuple):
    """What Lanczos found: A Q = Q T + r e_M^T, where the columns of Q are the rows of ``basis``.

    For a block of start vectors every field has a leading axis B, one independent run a row.

    Attributes:
        alphas: the diagonal of T, [M] float64 on the CPU.
        betas: the off-diagonal of T, [M - 1] float64 on the CPU.
        basis: the orthonormal vectors [M, P], or None where they weren't kept (``keep_basis``, ``max_v``).
        residual: r, [P]; zero to rounding where an invariant subspace was found.
        start: the start vector as it came, [P].
        length: the number of steps done; in a block, a row that ended early is padded with zeros behind it.
        orthogonality_loss: the largest of |q_i . q_j| (i != j) and | |q_i|^2 - 1 |. Measured where the whole
            basis is held; else the larger of what is measured among the held vectors and the estimate of
            Simon's recurrence, which errs upward.
        products: matrix-vector products spent.
    """

    alphas: Tensor
    betas: Tensor
    basis: Tensor | None
    residual: Tensor
    start: Tensor
    length: Tensor
    orthogonality_loss: float
    products: int


@uncast
def lanczos(
    operator: Operator,
    v0: Tensor,
    steps: int,
    *,
    max_v: int | None = None,
    keep_basis: bool = True,
    on_breakdown: str = "stop",
    basis_device: torch.device | str | None = None,
    seed: int | torch.Generator = 0,
) -> Tridiagonal:
    """Runs ``steps`` steps of Lanczos with full reorthogonalization from a vector, or from each row of a block.

    From every new vector the two latest are subtracted and then its part along all held ones, again where rounding
    asks for it (:func:`orthogonalize`; Parlett, The Symmetric Eigenvalue Problem, section 6.9). The coefficients are
    float64 whatever the operator's dtype.

    Args:
        operator: the symmetric map.
        v0: start vector [P], or a block of them [B, P]. It needn't be normalized.
        steps: M. More than P steps cannot be made: the space is exhausted then.
        max_v: at most so many basis vectors are held per run (the latest), at least 2. None holds all. With
            fewer than ``steps`` the basis isn't returned, orthogonality fades once Ritz values converge, and
            copies ("ghosts") of these appear among the nodes: watch ``orthogonality_loss``.
        keep_basis: whether the basis is returned.
        on_breakdown: where the Krylov space is invariant before ``steps`` are done, "stop" ends the run;
            "restart" goes on with a random vector of the complement and a zero in ``betas``, as the original
            LLA does.
        basis_device: where the basis is held, the operator's device if None. "cpu" saves the memory of a GPU;
            the orthogonalization is then done there too, which beats moving the basis back and forth.
        seed: a whole number or a generator, used by "restart" only.

    Returns:
        the tridiagonal matrix, the basis and their diagnostics.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value, or the operator returned
            numbers that aren't finite.

    Source: Lanczos 1950; Parlett 1998, chapter 13. The original LLA keeps the latest ``max_v=10`` vectors
    only and doesn't report the loss; here the full basis is the default.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> operator = from_matrix(torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)))
        >>> found = lanczos(operator, torch.ones(3, dtype=torch.float64), 3)
        >>> torch.linalg.eigvalsh(tridiagonal_matrix(found)).round(decimals=12)
        tensor([1., 2., 4.], dtype=torch.float64)
    """
    one_of("on_breakdown", on_breakdown, ("stop", "restart"))
    flag("keep_basis", keep_basis)
    check_vectors("v0", v0, operator)
    steps = min(positive_int("steps", steps), operator.dim)
    held = steps if max_v is None else min(positive_int("max_v", max_v, least=2), steps)
    generator = generator_from(seed, stream=1)
    block = torch.atleast_2d(v0.detach())
    count = len(block)
    dot = dot_of(operator)
    norms = dot(block, block).sqrt()
    unfit = ~((norms > 0) & norms.isfinite())
    if bool(unfit.any()):
        raise ValueError(f"v0 is zero or not finite in row {int(unfit.nonzero()[0])}; pass a non-zero vector")

    # A ring: step j lies in slot j % held. Slots not yet written are zero and change no projection.
    held_on = operator.device if basis_device is None else usable_device("basis_device", basis_device)
    ring = torch.zeros(count, held, operator.dim, dtype=operator.dtype, device=held_on)
    alphas, betas = torch.zeros(2, count, steps, dtype=torch.float64)
    length = torch.full((count,), steps)
    residual = torch.empty_like(block)
    alive = torch.arange(count)
    spent = 0
    rounding = 32 * torch.finfo(operator.dtype).eps
    current, previous = block / norms.to(block)[:, None], torch.zeros_like(block)
    for step in range(steps):
        ring[alive, step % held] = current.to(held_on)
        image = apply(operator, current)
        spent += len(current)
        alpha = dot(image, current).cpu()
        before = betas[alive, step - 1] if step else torch.zeros(len(alive), dtype=torch.float64)
        image = torch.addcmul(image, alpha.to(image)[:, None], current, value=-1)
        image.addcmul_(before.to(image)[:, None], previous, value=-1)
        bases = _rows(ring, alive)[:, : step + 1]
        image, squares, _ = orthogonalize(image.to(held_on), bases, dot=operator.inner)
        image, beta = image.to(operator.device), squares.sqrt().cpu()
        alphas[alive, step], betas[alive, step] = alpha, beta
        if step == steps - 1:
            residual[alive] = image
            break
        scale = torch.maximum(alphas[alive].abs().amax(1), betas[alive].amax(1))
        broken = beta <= rounding * scale
        if bool(broken.any()):
            betas[alive[broken], step] = 0.0
            if on_breakdown == "stop":
                length[alive[broken]], residual[alive[broken]] = step + 1, image[broken]
                alive, image, current, beta = alive[~broken], image[~broken], current[~broken], beta[~broken]
                if len(alive) == 0:
                    break
            else:
                image[broken] = _complement(_rows(ring, alive[broken])[:, : step + 1], operator, generator)
                beta = dot(image, image).sqrt().cpu()
        previous, current = current, image / beta.to(image)[:, None]

    loss = float(_measured_loss(ring, length.clamp(max=held), operator.inner).max())
    if held < steps:
        loss = max(loss, *(_estimated_loss(a, b, held, rounding) for a, b in zip(alphas, betas, strict=True)))
    basis = ring if keep_basis and held == steps else None
    found = Tridiagonal(alphas, betas[:, :-1], basis, residual, block, length, loss, spent)
    return run(found, 0) if v0.ndim == 1 else found


def run(found: Tridiagonal, index: int) -> Tridiagonal:
    """One run of a block, without its padding. Loss and products stay those of the whole block."""
    steps = int(found.length[index])
    basis = None if found.basis is None else found.basis[index, :steps]
    return found._replace(
        alphas=found.alphas[index, :steps],
        betas=found.betas[index, : steps - 1],
        basis=basis,
        residual=found.residual[index],
        start=found.start[index],
        length=found.length[index],
    )


def tridiagonal_matrix(found: Tridiagonal) -> Tensor:
    """T of a single run as a dense matrix [M, M]."""
    return torch.diag(found.alphas) + torch.diag(found.betas, 1) + torch.diag(found.betas, -1)


def apply(operator: Operator, block: Tensor) -> Tensor:
    """The products [B, P] of a block; a block of one goes as a plain vector, which every operator does best."""
    image = operator.matvec(block[0])[None] if len(block) == 1 else operator.matvec(block)
    if image.shape != block.shape:
        raise ValueError(
            f"operator {operator.name!r} maps vectors of shape {list(block.shape)} to {list(image.shape)}; "
            "matvec must map [P] to [P] and [B, P] to [B, P]"
        )
    # No NaN or infinity hides in a finite sum, which reads the image once; a sum may overflow, though.
    if not bool(image.sum().isfinite()) and not bool(image.isfinite().all()):
        raise ValueError(
            f"operator {operator.name!r} returned NaN or infinite values for a finite vector; look for them in the "
            "parameters, the data and the loss at this point"
        )
    return image.detach()


def dot_of(operator: Operator) -> Dot:
    """The inner products over the last axis: the operator's own, or :func:`inner`."""
    return operator.inner or inner


def orthogonalize(
    block: Tensor, *bases: Tensor, dot: Dot | None = None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Removes from each row of ``block`` [B, P], in place, its part in the span of its own bases [B, M, P].

    One pass leaves rounding of what it removes. Where that was more than what stays, another pass follows (Daniel,
    Gragg, Kaufman and Stewart 1976); more than two are needed only where nothing but rounding stays.

    Args:
        block: vectors, as many as ``bases`` has rows.
        bases: orthonormal vectors, and those of one orthogonal to those of another.
        dot: inner products, if they're not the sums over the last axis (``Operator.inner``).

    Returns:
        the block, the squared norms of its rows, [B] float64, and the coefficients that were removed, [B, M] for each
        of the bases.
    """
    removed = [torch.zeros(basis.shape[:2], dtype=torch.float64, device=block.device) for basis in bases]
    for _ in range(PASSES):
        share = torch.zeros(len(block), dtype=torch.float64, device=block.device)
        for basis, total in zip(bases, removed, strict=True):
            along = coefficients(basis, block, dot=dot)
            if len(block) == 1:
                block[0].addmv_(basis[0].mT, along[0].to(block), alpha=-1)
            else:
                block[:, None].baddbmm_(along[:, None].to(block), basis, alpha=-1)
            total += along
            share += along.square().sum(1)
        squares = (dot or inner)(block, block)
        if bool((squares >= share).all()):
            break
    return block, squares, removed


def coefficients(bases: Tensor, block: Tensor, *, dot: Dot | None = None) -> Tensor:
    """The inner products of each row of a block [B, P] with its own basis [B, M, P], summed in float64 over pieces."""
    if dot is not None:
        return dot(bases, block[:, None].expand_as(bases))
    total = torch.zeros(bases.shape[:2], dtype=torch.float64, device=block.device)
    for basis, part in zip(bases.split(COLUMNS, 2), block.split(COLUMNS, 1), strict=True):
        total += basis[0] @ part[0] if len(part) == 1 else (basis @ part[..., None])[..., 0]
    return total


def rows_per_block(operator: Operator, vectors_per_row: int, *, block: int | None = None) -> int:
    """How many runs to take at once: ``block``, or as many as hold their vectors in 64 MiB (at least one)."""
    if block is not None:
        return positive_int("block", block)
    return max(1, 2**26 // (vectors_per_row * operator.dim * operator.dtype.itemsize))


def _rows(ring: Tensor, index: Tensor) -> Tensor:
    """The bases of some runs; without a copy where these are all of them."""
    return ring if len(index) == len(ring) else ring[index.to(ring.device)]


def check_operator(operator: Operator) -> None:
    """Raises a TypeError unless it is an Operator."""
    instance("operator", operator, Operator, "an Operator, such as products.hessian(objective)")


def check_vectors(name: str, vectors: Tensor, operator: Operator) -> None:
    """Raises unless ``vectors`` is a tensor [P] or [B, P] that ``operator`` can multiply."""
    check_operator(operator)
    if not isinstance(vectors, Tensor):
        raise TypeError(f"{name} is a {type(vectors).__name__}; pass a tensor [P] or [B, P]")
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != operator.dim or vectors.numel() == 0:
        raise ValueError(
            f"{name} has shape {list(vectors.shape)}; operator {operator.name!r} needs [{operator.dim}] "
            f"or [B, {operator.dim}]"
        )
    if vectors.dtype != operator.dtype:
        raise ValueError(
            f"{name} is {vectors.dtype}, operator {operator.name!r} works in {operator.dtype}; "
            f"pass {name}.to({operator.dtype})"
        )


def _complement(bases: Tensor, operator: Operator, generator: torch.Generator) -> Tensor:
    """A random unit vector orthogonal to each basis [B, M, P]."""
    drawn = drawn_for(operator, len(bases), kind="gaussian", seed=generator)
    fresh, squares, _ = orthogonalize(drawn.to(bases.device), bases, dot=operator.inner)
    return (fresh / squares.sqrt().to(fresh)[:, None]).to(operator.device)


def _measured_loss(bases: Tensor, length: Tensor, dot: Dot | None) -> Tensor:
    """The largest entry of |Q^T Q - I| for each basis [B, M, P], of which the first ``length`` [B] vectors count."""
    rows = (coefficients(bases, row, dot=dot) for row in bases.unbind(1))
    gram = (torch.stack([*rows], 1) if dot else bases @ bases.mT).to("cpu", torch.float64)
    expected = (torch.arange(bases.shape[1]) < length[:, None]).to(torch.float64)
    return (gram - torch.diag_embed(expected)).abs().amax((1, 2))


def _estimated_loss(alphas: Tensor, betas: Tensor, held: int, rounding: float) -> float:
    """Follows q_i . q_j from the coefficients alone, where vectors older than ``held`` steps are gone.

    Source: Simon, The Lanczos algorithm with partial reorthogonalization, 1984: multiplying the three-term
    recurrence by an old basis vector gives a recurrence for the inner products. Those with held vectors are
    set to rounding. It errs upward, by up to five orders of magnitude in our trials.
    """
    steps = len(alphas)
    noise = rounding * float(torch.maximum(alphas.abs().max(), betas.max()))
    # The inner products of q_{j-1} (row 0) and of q_j (row 1) with all vectors before.
    omega = torch.zeros(2, steps + 1, dtype=torch.float64)
    omega[1, 0] = 1.0
    worst = 0.0
    for j in range(steps - 1):
        if betas[j] <= noise:  # the run broke down; what follows starts anew
            break
        past = torch.arange(j)
        rise = betas[past] * omega[1, past + 1] + (alphas[past] - alphas[j]) * omega[1, past]
        rise[1:] += betas[past[1:] - 1] * omega[1, past[1:] - 1]
        rise -= (betas[j - 1] if j else 0.0) * omega[0, past]
        following = torch.zeros(steps + 1, dtype=torch.float64)
        following[past] = ((rise + rise.sign() * noise) / betas[j]).clamp(-1.0, 1.0)
        following[max(0, j + 1 - held) : j + 1] = rounding
        worst = max(worst, float(following.abs().max()))
        following[j + 1] = 1.0
        omega = torch.stack([omega[1], following])
    return worst
