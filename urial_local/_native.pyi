from typing import Any

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
def draw_rows(
    rows: list[tuple[int, int, float, int, float, float, float, npt.NDArray[np.int32], float, int]],
    n_vocab: int,
    threads: int = 1,
    level: str = "",
) -> tuple[
    npt.NDArray[np.int32],
    npt.NDArray[np.float64],
    npt.NDArray[np.int32],
    npt.NDArray[np.int32],
    npt.NDArray[np.float64],
]: ...
def shift_rows(
    base: int,
    aligned: int,
    n_rows: int,
    n_vocab: int,
    base_rows: npt.NDArray[np.int32],
    aligned_rows: npt.NDArray[np.int32],
    targets: npt.NDArray[np.int32],
    k: int,
    threads: int = 1,
    level: str = "",
) -> dict[str, Any]: ...
def instruction_level() -> str: ...
def abort_callback() -> int: ...
def begin_interrupts(flag: int) -> bool: ...
def end_interrupts() -> None: ...
def log_callback() -> int: ...
def take_log() -> list[bytes]: ...
