"""`turnout.merge`: a base checkpoint with an adapter's routers, as a checkpoint of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from turnout.listener import Listener

if TYPE_CHECKING:
    from turnout.aligning.merging import RouterDtype


def merge(
    base: str | Path,
    adapter: str | Path,
    out: str | Path,
    dtype: "RouterDtype" = "checkpoint",
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
) -> Path:
    """Write `base` with the adapter's routers to the new folder `out`; transformers loads it by itself.

    Every other tensor keeps its bytes. The base is loaded once, on the CPU, to check that it is the adapter's. Weights
    in other formats beside the base's are not copied: they contain the old routers.

    >>> turnout.merge("path/to/checkpoint", "run", "merged")

    Args:
        base: the checkpoint's folder or hub id.
        adapter: a folder with a router adapter, such as the run of `turnout.align`.
        out: a folder that does not exist or is empty.
        dtype: dtype of the routers in the files: "checkpoint" (the base's own) or "float32".
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code of the checkpoint.
        listener: receives progress.

    Returns:
        The folder `out`.

    Raises:
        RecipeError: another dtype.
        ModelError: no such base or adapter, an adapter of another base, a router that is not in the base's files (in a
            quantized checkpoint, for example), or `out` contains files.
        RunError: `out` cannot be written.
    """
    from turnout.aligning.merging import ROUTER_DTYPES, check_out, files_of, run
    from turnout.errors import RecipeError
    from turnout.models.change.adapter import RouterAdapter
    from turnout.models.wrap.load import load

    if dtype not in ROUTER_DTYPES:
        raise RecipeError("dtype", expected=" or ".join(ROUTER_DTYPES), received=dtype)
    trained = RouterAdapter.read(adapter)
    check_out(Path(out))
    moe = load(base, trained.dtype, "cpu", revision=revision, trust_remote_code=trust_remote_code)
    trained.check(moe)
    run(moe, files_of(base, revision), trained, Path(out), dtype, listener or Listener())
    return Path(out)
