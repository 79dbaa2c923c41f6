"""Which model simulates which Lava process: by kind (hierarchical or not), then by tag."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lava.magma.core.model.py.model import AbstractPyProcessModel, PyAsyncProcessModel
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.run_configs import RunConfig

from nir_dynapse.errors import LavaRunError

__all__ = ["DynapSE2SimCfg"]


class DynapSE2SimCfg(RunConfig):
    """Chooses models that run on CPUs, for the processes of this package and for Lava's own.

    Models that compute themselves come before hierarchical ones, or after them with `select_sub_proc_model`; the other
    kind is taken where the first has no model that fits. Among models of a kind, one tagged `select_tag` comes first,
    then one of each of `fallback_tags`, then one without tags (Lava's Injector, Extractor and Monitor parts have none),
    synchronous before asynchronous. `exception_proc_model_map` names the model of a process class, whatever its tags.
    """

    def __init__(
        self,
        select_tag: str | None = "floating_pt",
        *,
        select_sub_proc_model: bool = False,
        fallback_tags: Sequence[str] = ("floating_pt",),
        exception_proc_model_map: Mapping[type, type] | None = None,
        custom_sync_domains: list[Any] | None = None,
        loglevel: int = logging.WARNING,
    ) -> None:
        super().__init__(custom_sync_domains=custom_sync_domains, loglevel=loglevel)
        wanted = fallback_tags if select_tag is None else (select_tag, *fallback_tags)
        self.tags = tuple(dict.fromkeys(wanted))
        self.select_sub_proc_model = select_sub_proc_model
        self.exception_proc_model_map = dict(exception_proc_model_map or {})

    def select(self, process: Any, proc_model: Sequence[type]) -> Any:
        """The model class for `process` among `proc_model`; LavaRunError where none fits."""
        chosen = self.exception_proc_model_map.get(type(process))
        if chosen is not None:
            return chosen
        leaves = [m for m in proc_model if issubclass(m, AbstractPyProcessModel)]
        leaves.sort(key=lambda m: issubclass(m, PyAsyncProcessModel))
        parts = [m for m in proc_model if issubclass(m, AbstractSubProcessModel)]
        for pool in (parts, leaves) if self.select_sub_proc_model else (leaves, parts):
            found = self._first(pool)
            if found is not None:
                return found
        there = ", ".join(f"{m.__name__} ({', '.join(_tags(m)) or 'no tag'})" for m in proc_model) or "none"
        raise LavaRunError(
            f"Lava process {process.name!r} ({type(process).__name__}) has no model for CPUs with a tag of "
            f"{', '.join(map(repr, self.tags)) or 'none'}, nor one without tags; its models are: {there}. Give "
            "DynapSE2SimCfg another select_tag, or name the model in exception_proc_model_map."
        )

    def _first(self, pool: Sequence[type]) -> type | None:
        for wanted in self.tags:
            for model in pool:
                if wanted in _tags(model):
                    return model
        return next((model for model in pool if not _tags(model)), None)


def _tags(model: type) -> list[str]:
    return list(getattr(model, "tags", ()))
