import numpy as np
import numpy.typing as npt

def score_rows(
    address: int,
    n_rows: int,
    n_vocab: int,
    rows: npt.NDArray[np.int32],
    targets: npt.NDArray[np.int32],
    level: str = "",
) -> tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.int32],
    npt.NDArray[np.int32],
]: ...
def instruction_level() -> str: ...
def abort_callback() -> int: ...
def begin_interrupts(flag: int) -> bool: ...
def end_interrupts() -> None: ...
