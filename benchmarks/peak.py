"""The largest memory of this process, or of the GPU, while something runs."""

import threading


class PeakMemory:
    """The largest memory of the process within a `with` block, asked every 20 ms.

    On a GPU it is what is taken of the GPU's memory beyond what was taken at the start, such as all ways' weights.
    """

    def __init__(self, device: str):
        self._gpu = device.startswith("cuda")
        self.mib = 0.0

    def __enter__(self) -> "PeakMemory":
        from components.inference.engine.usage import resident_mib

        self._over = threading.Event()
        if self._gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

        def watch() -> None:
            while not self._over.wait(0.02):
                self.mib = max(self.mib, resident_mib())

        self._thread = threading.Thread(target=watch, daemon=True)
        if not self._gpu:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._gpu:
            import torch

            self.mib = (torch.cuda.max_memory_allocated() - self._before) / 2**20
        else:
            self._thread.join()
