"""The native kernels. Their threads are OpenMP's, as llama.cpp's are, and OpenMP reads only once
how its threads are to wait: when it is loaded, which importing this module does."""

from urial_local.runtime.threads import set_waiting

set_waiting()

from urial_local import _native as native  # noqa: E402

__all__ = ["native"]
