"""The curator: BABS's hands."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import ClassVar

from batos.curator.build import FOLDER, curated, files_of, query, write_files
from batos.curator.errors import CuratorError
from batos.curator.ingest import LogPuller, Pulled
from batos.curator.metrics import CuratorMetrics
from batos.curator.settings import CuratorSettings
from batos.mind import MindError, datasets, persona_slot
from batos.mind.datasets import Dataset
from batos.protocol import Curate, DatasetBuilt, Progress, ProtocolError, RequestContext, RequestFailed
from batos.uvm import CommitFateUnknown, Image, Transient, UvmError, open_image
from batos.vessel import StartFailed, Vessel

SERVICE = "curator"
CAPACITY = 4
"""Requests taken at a time; data sets themselves are built one after another."""

_ID = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger("batos.curator")


class CuratorVessel(Vessel[CuratorSettings]):
    """Ships the log into memory, in the background and when asked, and builds data sets from it."""

    kind: ClassVar[str] = "curator"
    distribution: ClassVar[str] = "batos-curator"

    def __init__(self, settings: CuratorSettings) -> None:
        super().__init__(settings)
        self.metrics = CuratorMetrics(self.registry)
        self._building = asyncio.Lock()
        self._image: Image | None = None
        self._puller: LogPuller | None = None
        self._background: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the image, serve, and begin to read logs in the background."""
        try:
            self._image = await asyncio.to_thread(open_image, self.settings.image_uri)
        except UvmError as error:
            raise StartFailed("image_unreachable", f"the image cannot be opened: {error}", "is it up?") from error
        self._puller = LogPuller(self.peer, self._image, self.settings, self.metrics)
        self.peer.serve([SERVICE], {Curate: self._curate}, capacity=CAPACITY)
        self._background = asyncio.create_task(self._ingest_forever(), name="ingest")
        self.set_ready(True)

    async def stop(self) -> None:
        """End the background reading and close the image."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)
        if self._image is not None:
            await asyncio.to_thread(self._image.close)

    @property
    def image(self) -> Image:
        """The image; open from `start` on."""
        if self._image is None:
            raise StartFailed("image_closed", "the image is not open: start() opens it")
        return self._image

    @property
    def puller(self) -> LogPuller:
        """Who reads the logs; there from `start` on."""
        if self._puller is None:
            raise StartFailed("image_closed", "there is no image to read logs into: start() opens it")
        return self._puller

    async def _ingest_forever(self) -> None:
        """Look for new records now and then. What fails is tried again at the next look."""
        while True:
            try:
                pulled = await self.puller.pull()
                if pulled.records:
                    _log.info("took %d log records into memory", pulled.records)
            except (ProtocolError, MindError, CuratorError, UvmError) as error:
                _log.warning("logs were not read, next look in %g s: %s", self.settings.curator_interval_s, error)
            await asyncio.sleep(self.settings.curator_interval_s)

    async def _curate(self, message: Curate, context: RequestContext) -> DatasetBuilt:
        del context
        if _ID.fullmatch(message.request_id) is None:
            raise RequestFailed(
                "request_id_invalid",
                f"the request's id {message.request_id[:64]!r} is not 32 lower-case hexadecimal digits",
                "make it with new_id()",
            )
        try:
            persona_slot(message.persona)
            async with self._building:
                dataset = await self._built(message.request_id, message.persona.upper())
        except (CuratorError, MindError) as error:
            raise RequestFailed(error.code, error.message, error.hint) from error
        except (Transient, CommitFateUnknown) as error:
            raise RequestFailed(
                "image_unreachable", str(error), "is it up? see `batos status`", transient=True
            ) from error
        except ProtocolError as error:
            raise RequestFailed(error.code, error.message, error.hint) from error
        return DatasetBuilt(
            dataset_id=dataset.dataset_id,
            persona=dataset.persona,
            sha256=dataset.sha256,
            rows=dataset.rows,
            train_rows=dataset.train_rows,
            held_out_rows=dataset.held_out_rows,
            records_ingested=dataset.records_ingested,
            path=f"{FOLDER}/{dataset.dataset_id}",
        )

    async def _built(self, dataset_id: str, persona: str) -> Dataset:
        """Return the data set of this id, built if it is not there yet, and written for reading."""

        def tell(stage: str, fraction: float | None, detail: str = "") -> None:
            event = Progress(what="curate", id=dataset_id, stage=stage, fraction=fraction, detail=detail)
            self.peer.publish(f"progress/curate/{dataset_id}", event)

        dataset = await asyncio.to_thread(self._known, dataset_id)
        if dataset is None:
            pulled = await self.puller.pull(lambda detail, fraction: tell("reading logs", fraction, detail))
            unread = f"; not read: {', '.join(pulled.unread)}" if pulled.unread else ""
            tell("curating", None, f"{pulled.records} new log records{unread}")
            dataset = await asyncio.to_thread(self._build, dataset_id, persona, pulled)
            self.metrics.datasets.inc()
            self.metrics.rows.labels("train").inc(dataset.train_rows)
            self.metrics.rows.labels("held_out").inc(dataset.held_out_rows)
        tell("writing", None, f"{dataset.train_rows} rows to train on, {dataset.held_out_rows} held out")
        await asyncio.to_thread(self._write, dataset_id)
        tell("done", 1.0, f"{dataset.rows} rows")
        return dataset

    def _known(self, dataset_id: str) -> Dataset | None:
        with self.image.snapshot() as root:
            return datasets.get(root, dataset_id) if datasets.known(root, dataset_id) else None

    def _build(self, dataset_id: str, persona: str, pulled: Pulled) -> Dataset:
        with self.image.snapshot() as root:
            found = curated(root, persona=persona, unread=pulled.unread, settings=self.settings)
        return self.image.run(
            lambda root: datasets.add(
                root,
                dataset_id=dataset_id,
                persona=persona,
                query=query(persona),
                train=found.train,
                held_out=found.held_out,
                counts=found.counts,
                records_ingested=pulled.records,
            ),
            user=self.name,
            note=f"data set {dataset_id} of {persona}",
        )

    def _write(self, dataset_id: str) -> None:
        with self.image.snapshot() as root:
            files = files_of(root, dataset_id)
        write_files(self.settings.home / FOLDER / dataset_id, files)
