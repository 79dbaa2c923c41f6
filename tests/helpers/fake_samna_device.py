"""A fake samna with boards: `samna.device`, `samna.dynapse2`, an Interface and a Model, on virtual silicon.

Between the library and the silicon there are only samna's objects: what was applied is read from the configuration object
without names, events are NormalGridEvents, and time is the host's, which `sleep` advances. Faults are planted in `Board`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from enum import Enum
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import fake_samna
from fake_samna import Dynapse2Configuration, Dynapse2Destination
from nir_dynapse.board.address_events import GRID_DTYPE
from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.layout import Layout
from nir_dynapse.sim.virtual.chip import VirtualChip
from nir_dynapse.sim.virtual.link import VirtualLink

STACK, DEV_BOARD = "DYNAP-SE2 Stack", "DYNAP-SE2 DevBoard"
WRAP = 1 << 32


class ResetType(Enum):
    ConfigReset = 0
    PowerCycle = 1


class BusId(Enum):
    W = 0
    sADC = 1


class NormalGridEvent:
    """An address event; both attributes are checked as pybind does, and the address is copied."""

    __slots__ = ("_event", "_timestamp")

    def __init__(self) -> None:
        self._event, self._timestamp = Dynapse2Destination(), 0

    @property
    def event(self) -> Dynapse2Destination:
        return self._event

    @event.setter
    def event(self, value: Any) -> None:
        if type(value) is not Dynapse2Destination:
            raise TypeError(f"incompatible event {value!r}")
        self._event = copy.copy(value)

    @property
    def timestamp(self) -> int:
        return self._timestamp

    @timestamp.setter
    def timestamp(self, value: Any) -> None:
        if type(value) is not int or not 0 <= value < WRAP:
            raise TypeError(f"incompatible timestamp {value!r}")
        self._timestamp = value


class Host:
    """The host's clock: nobody waits, `sleep` lets it pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


class Board:
    """One board: what it is, what was asked of it (`calls`), what it holds, and what goes wrong.

    `faults[method, n]` is raised by the n-th call (from 1) of that method; `unplugged_at` is the number of the call from
    which on all of them fail; `twist` changes what is read; `write_seconds` and `read_seconds` are what those take; at most
    `piece` events come with one read; `errors` are reported; `deaf` never answers;
    `forgetful` loses its configuration where the FPGA is reset.
    """

    def __init__(
        self, samna: Samna, kind: str = STACK, serial: str = "A1", n_chips: int = 1, seed: int = 7, address: int = 7
    ) -> None:
        self.samna, self.kind, self.serial, self.n_chips = samna, kind, serial, n_chips
        self.info = SimpleNamespace(
            daughter_board_num=0,
            device_type_name=kind,
            logic_version=3,
            serial_number=serial,
            usb_bus_number=2,
            usb_device_address=address,
        )
        self.link = VirtualLink(VirtualChip(seed, samna.silicon, samna.silicon.mismatch), n_chips, serial)
        self.is_open = self.loaded = False
        self.calls: list[str] = []
        self.held = self.fresh()
        self.queue = np.zeros(0, GRID_DTYPE)
        self.sent = 0
        self.faults: dict[tuple[str, int], BaseException] = {}
        self.unplugged_at: int | None = None
        self.twist: Callable[[np.ndarray], np.ndarray] = lambda events: events
        self.write_seconds: Callable[[int], float] = lambda events: 0.0
        self.read_seconds = 0.0
        self.piece: int | None = None
        self.errors: list[str] = []
        self.deaf = self.forgetful = False
        self.accepts: Any = True
        self._read: dict[Any, Layout] = {}

    def fresh(self) -> Dynapse2Configuration:
        config = object.__new__(Dynapse2Configuration)
        config.chips = [cloned(CHIP) for _ in range(self.n_chips)]
        return config

    def call(self, method: str) -> None:
        """Every use of the board begins here."""
        self.calls.append(method)
        if self.unplugged_at is not None and len(self.calls) >= self.unplugged_at:
            raise RuntimeError("USB transfer failed: no such device")
        fault = self.faults.get((method, self.calls.count(method)))
        if fault is not None:
            raise fault
        if method != "open_device" and not self.is_open:
            raise RuntimeError("the device is closed")
        self.link.now = 1e6 * self.samna.host.now

    def set_clock(self, now: int) -> None:
        """Let the FPGA's clock show `now`."""
        self.link._offset = 1e6 * self.samna.host.now - now

    @property
    def bits(self) -> Layout:
        """What the chips hold."""
        key = key_of(self.held)
        if key not in self._read:
            self._read[key] = from_samna(self.held)
        return self._read[key]


class Model:
    def __init__(self, board: Board) -> None:
        self._board = board

    def reset(self, kind: ResetType, mask: int) -> None:
        self._board.call("reset")
        assert isinstance(kind, ResetType)
        assert mask == (1 << self._board.n_chips) - 1
        self._board.held = self._board.fresh()

    def get_configuration(self) -> Dynapse2Configuration:
        """A copy on the host of what was applied last."""
        self._board.call("get_configuration")
        return cloned(self._board.held)

    def apply_configuration(self, config: Dynapse2Configuration) -> None:
        board = self._board
        board.call("apply_configuration")
        if type(config) is not Dynapse2Configuration or len(config.chips) != board.n_chips:
            raise TypeError("incompatible configuration")
        board.held = cloned(config)
        neurons = [neuron for chip in board.held.chips for core in chip.cores for neuron in core.neurons]
        if any(NEURON(neuron)[:2] != NEURON(CHIP.cores[0].neurons[0])[:2] for neuron in neurons):
            waiting = board.link.waiting()
            board.link.configure(board.bits, quiet=False)
            board.link.enqueue(waiting)  # only a reset of the FPGA drops what was handed over

    def get_error_events(self) -> list[str]:
        self._board.call("get_error_events")
        return list(self._board.errors)

    def clear_error_queue(self) -> None:
        self._board.call("clear_error_queue")
        self._board.errors = []


class OldModel(Model):
    """One without an error queue."""

    get_error_events = clear_error_queue = property()  # pyright: ignore


class Interface:
    def __init__(self, board: Board) -> None:
        self._board = board

    def configure_opal_kelly(self, path: str) -> Any:
        self._board.call("configure_opal_kelly")
        if type(path) is not str or not Path(path).is_file():
            raise TypeError(f"no bit file {path!r}")
        self._board.loaded = self._board.accepts is True
        return self._board.accepts

    def reset_fpga(self) -> bool:
        self._board.call("reset_fpga")
        assert self._board.loaded
        self._board.link.restart_clock()
        if self._board.forgetful:
            self._board.held = self._board.fresh()
        return True

    def get_model(self) -> Model:
        self._board.call("get_model")
        return self._board.samna.model(self._board)

    def get_number_of_chips(self) -> int:
        self._board.call("get_number_of_chips")
        return self._board.n_chips

    def input_interface_write_events(self, bus: int, events: list[NormalGridEvent]) -> None:
        board = self._board
        board.call("input_interface_write_events")
        if type(bus) is not int or not isinstance(events, list) or {type(e) for e in events} - {NormalGridEvent}:
            raise TypeError("incompatible function arguments")
        places: list[Any] = [e.event for e in events]
        rows = [
            (e.timestamp, p.tag, sum(bit << i for i, bit in enumerate(p.core)), p.x_hop, p.y_hop)
            for e, p in zip(events, places, strict=True)
        ]
        grid = np.array(rows, GRID_DTYPE)
        waiting = grid["time"][grid["time"] != 0]
        assert (np.diff(waiting) >= 0).all(), "stimuli must be sorted"
        board.samna.host.now += board.write_seconds(len(events))
        board.link.now = 1e6 * board.samna.host.now
        board.sent += len(events)
        board.link.send(grid)

    def read_events(self) -> list[NormalGridEvent]:
        board = self._board
        board.call("read_events")
        fresh = board.twist(board.link.receive())
        board.queue = np.concatenate([board.queue, fresh if not board.deaf else fresh[:0]])
        board.samna.host.now += board.read_seconds
        count = len(board.queue) if board.piece is None else board.piece
        now, board.queue = board.queue[:count], board.queue[count:]
        return [grid_event(*row) for row in now.tolist()]


def grid_event(timestamp: int, tag: int, cores: int, x_hop: int, y_hop: int) -> NormalGridEvent:
    event, address = NormalGridEvent(), Dynapse2Destination()
    address.tag, address.x_hop, address.y_hop = tag, x_hop, y_hop
    address.core = [bool(cores >> i & 1) for i in range(4)]
    event.event, event.timestamp = address, timestamp
    return event


def cloned(thing: Any) -> Any:
    """A copy, as pybind makes one of every configuration that crosses it; rows are never changed, so they are shared."""
    if type(thing) is fake_samna.Dynapse2Neuron:
        made = object.__new__(fake_samna.Dynapse2Neuron)
        for name, value in zip(SLOTS, NEURON(thing), strict=True):
            object.__setattr__(made, name, value)
        return made
    if isinstance(thing, list):
        return [cloned(value) for value in thing]
    if isinstance(thing, dict):
        return {key: cloned(value) for key, value in thing.items()}
    names = getattr(type(thing), "__slots__", ())
    if not names or isinstance(thing, Enum):
        return thing
    made = object.__new__(type(thing))
    for name in names:
        object.__setattr__(made, name, cloned(getattr(thing, name)))
    return made


CHIP = fake_samna.Dynapse2Chip()
SLOTS = fake_samna.Dynapse2Neuron.__slots__
NEURON = attrgetter(*SLOTS)
CODE = attrgetter("coarse_value", "fine_value")


def key_of(config: Dynapse2Configuration) -> tuple[Any, ...]:
    """Equal where the bits of two configurations are the same objects: reading one takes long."""
    cores = [core for chip in config.chips for core in chip.cores]
    return tuple((*map(NEURON, core.neurons), *map(CODE, core.parameters.values())) for core in cores)


class Samna:
    """The module: `device` and `dynapse2`, with the boards given to `plug`; `options` go to `open_samna`."""

    __version__ = "0.14.25.0"

    def __init__(self, silicon: Device = DYNAPSE2) -> None:
        self.silicon, self.host, self.boards = silicon, Host(), list[Board]()
        self.model: type[Model] = Model
        self.device = SimpleNamespace(
            get_all_devices=lambda: [board.info for board in self.boards],
            get_unopened_devices=lambda: [board.info for board in self.boards if not board.is_open],
            open_device=self._open_device,
            close_device=self._close_device,
        )
        self.dynapse2 = SimpleNamespace(
            BusId=BusId,
            Dendrite=fake_samna.Dendrite,
            Dynapse2Configuration=Dynapse2Configuration,
            Dynapse2Destination=Dynapse2Destination,
            Dynapse2Synapse=fake_samna.Dynapse2Synapse,
            NormalGridEvent=NormalGridEvent,
            ResetType=ResetType,
        )

    @property
    def options(self) -> dict[str, Any]:
        return {"samna": self, "sleep": self.host.sleep, "monotonic": self.host.monotonic}

    def plug(self, **options: Any) -> Board:
        """Connect one more board."""
        self.boards.append(Board(self, **options))
        return self.boards[-1]

    def _open_device(self, info: Any) -> Interface:
        board = next(board for board in self.boards if board.info is info)
        if board.is_open:
            raise ValueError("initializeUSB failed, error code : -3")
        board.call("open_device")
        board.is_open = True
        return Interface(board)

    def _close_device(self, interface: Interface) -> None:
        board = interface._board
        board.call("close_device")
        board.is_open = False
