"""Where models come from and go to: what a server keeps on its disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import ModelStatus

__all__ = ["ModelLibrary"]


class ModelLibrary(ABC):
    """The models that a server keeps, which the engine knows by their ids."""

    @abstractmethod
    async def pull(
        self, reference: str, progress: Callable[[str, int, int], object]
    ) -> ModelStatus:
        """Download a model and make it known; cancelling ends the download.

        What has arrived by then is kept for the next time. `progress` is told the file, how many
        of the model's bytes are there and how many it has.

        :raises TabagentError: why it cannot be had.
        """

    @abstractmethod
    async def delete(self, model_id: str) -> None:
        """Unload a model, forget it and delete its files.

        :raises RequestError: `model_not_found`; `invalid_parameter` for a model kept elsewhere.
        """
