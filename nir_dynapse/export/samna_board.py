"""A real board: `open_samna` finds, opens and starts it, `SamnaLink` reaches it. The only file that imports samna.

What samna is asked, and in which order, follows its users (facts/samna_dynapse2_contract.md §1–5); how a run goes is in
`link`. Whatever samna raises becomes a HardwareError, and the board is given back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nir_dynapse.board.address_events import GRID_DTYPE
from nir_dynapse.board.link import LinkedBoard, NoAnswer, Timing
from nir_dynapse.errors import DynapseError, HardwareError, NotInstalledError, ParameterRangeError
from nir_dynapse.export.samna_config import quiet_codes, to_samna
from nir_dynapse.layout.layout import Layout

__all__ = ["BIT_FILE_VARIABLE", "INSTALL", "SamnaLink", "find_samna", "list_boards", "open_samna"]

MARKER = "PYPI_SAMNA"
"""Text by which the placeholder that PyPI carries under the name samna is recognised."""
INSTALL = (
    "Install the real one: python -m pip install samna --index-url INDEX, where INDEX is the package index that SynSense's "
    "documentation of samna names (it is not PyPI). virtual:SEED needs no samna."
)
BIT_FILE_VARIABLE = "NIR_DYNAPSE_BIT_FILE"
BIT_FILES = {"DYNAP-SE2 Stack": "Dynapse2Stack.bit", "DYNAP-SE2 DevBoard": "Dynapse2DacTestboard.bit"}
"""Boards by the name that samna gives them, and the file that makes their FPGA one."""
WHICH_BIT_FILE = (
    f"A bit file is {' and '.join(f'{file} for a {board}' for board, file in BIT_FILES.items())}. It is not part of samna: "
    f"it comes with SynSense's or your lab's software. Give it as bit_file=, --bit-file or in {BIT_FILE_VARIABLE}."
)
MOST_CHIPS = 8
PAUSE, POWER_UP, SETTLE = 0.1, 1.0, 0.1
"""s around a reset of the FPGA, after switching the chips on, and after writing a configuration."""
State = Literal["ok", "missing", "placeholder"]


# -- samna itself -----------------------------------------------------------------------------------------------------


def find_samna() -> tuple[State, str]:
    """Whether samna is there, the real one or PyPI's placeholder, and in which file; it is never imported."""
    try:
        spec = find_spec("samna")
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "missing", ""
    places = (
        [spec.origin] if spec.origin else [str(Path(p) / "__init__.py") for p in spec.submodule_search_locations or ()]
    )
    for place in places:
        try:
            marked = MARKER.encode() in Path(place).read_bytes()
        except OSError:
            continue
        if marked:
            return "placeholder", place
    return "ok", str(places[0]) if places else ""


def _samna() -> Any:
    """The real samna, imported; NotInstalledError where there is none."""
    state, place = find_samna()
    if state == "missing":
        raise NotInstalledError(f"a real board needs samna, which is not installed. {INSTALL}")
    if state == "placeholder":
        raise NotInstalledError(
            f"the samna in {place} is PyPI's placeholder: it runs pip when it is imported and drives no board, so it "
            f"was not imported. Remove it: python -m pip uninstall samna. {INSTALL}"
        )
    try:
        import samna  # pyright: ignore[reportMissingImports]
    except Exception as error:
        raise NotInstalledError(
            f"the samna in {place} cannot be imported ({type(error).__name__}: {error}). Install it again for this Python."
        ) from error
    return samna


def list_boards() -> list[str]:
    """Every device that samna sees, in words (DynapseError where samna is missing or fails)."""
    return [_described(info) for info in _devices(_samna(), "get_all_devices")]


def _devices(samna: Any, function: str) -> list[Any]:
    """What `samna.device.<function>()` lists; nothing where this samna has no such function."""
    device = getattr(samna, "device", None)
    if device is None or not hasattr(samna, "dynapse2"):
        lacking = "device" if device is None else "dynapse2"
        raise HardwareError(
            f"samna {getattr(samna, '__version__', 'of unknown version')} has no samna.{lacking}: versions up to 0.11 "
            "connect in another way, which is not supported, and some are built without this chip. Install one with "
            "samna.device and samna.dynapse2, such as 0.14.25."
        )
    with _asking("samna", "listing the devices"):
        return list(getattr(device, function)()) if hasattr(device, function) else []


def _kind(info: Any) -> str:
    return str(getattr(info, "device_type_name", "unknown device"))


def _place(info: Any) -> str:
    return f"{getattr(info, 'usb_bus_number', '?')}:{getattr(info, 'usb_device_address', '?')}"


def _described(info: Any) -> str:
    serial = str(getattr(info, "serial_number", ""))
    return f"{_kind(info)}, {f'serial {serial}' if serial else 'no serial'}, USB bus:address {_place(info)}"


def _chosen(samna: Any, serial: str | None) -> Any:
    """The one DYNAP-SE2 board, or the one with this serial (or bus:address); free ones before those in use."""
    listed = {f: _devices(samna, f) for f in ("get_unopened_devices", "get_all_devices")}
    boards = {f: [info for info in infos if _kind(info) in BIT_FILES] for f, infos in listed.items()}
    everything = boards["get_all_devices"] or boards["get_unopened_devices"]
    if not everything:
        others = [_described(info) for infos in listed.values() for info in infos]
        raise HardwareError(
            f"no {' or '.join(BIT_FILES)} is connected (samna sees {'; '.join(dict.fromkeys(others)) or 'no device'}). "
            "Check cable and power, and that you may use USB devices; or use virtual:SEED."
        )
    for infos in (boards["get_unopened_devices"], boards["get_all_devices"]):
        fitting = [i for i in infos if serial is None or serial in (str(getattr(i, "serial_number", "")), _place(i))]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    found = "; ".join(_described(info) for info in everything)
    what = "more than one board is" if serial is None else f"no single board {serial!r} is"
    raise HardwareError(f"{what} connected: {found}. Choose one: samna:SERIAL, or samna:BUS:ADDRESS.")


# -- opening ----------------------------------------------------------------------------------------------------------


def open_samna(
    serial: str | None = None,
    *,
    bit_file: str | os.PathLike[str] | None = None,
    n_chips: int | None = None,
    samna: Any = None,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    timing: Timing | None = None,
) -> LinkedBoard:
    """Open and start a real board: the only one, or the one with this serial number (or "BUS:ADDRESS").

    `bit_file` makes its FPGA a DYNAP-SE2 board (default: the environment variable NIR_DYNAPSE_BIT_FILE). At most
    `n_chips` chips of the stack are used. NotInstalledError where samna is missing; HardwareError, and the board given
    back, for everything else that fails. `samna`, `sleep` and `monotonic` stand in for the real ones in tests.
    """
    samna = _samna() if samna is None else samna
    if n_chips is not None and not 1 <= n_chips <= MOST_CHIPS:
        raise ParameterRangeError(f"open_samna: n_chips is {n_chips}, allowed are 1 to {MOST_CHIPS}.")
    bits = _bit_file(bit_file)
    info = _chosen(samna, serial)
    name = f"{_kind(info)} {getattr(info, 'serial_number', '') or _place(info)}"
    with _asking(name, "opening it"):
        interface = samna.device.open_device(info)
    link = SamnaLink(samna, interface, name, sleep, monotonic)
    try:
        link.start(bits, min(n_chips or MOST_CHIPS, 1 if "DevBoard" in _kind(info) else MOST_CHIPS))
        board = LinkedBoard(link, timing)
        board.clock()
    except NoAnswer as error:
        link.close()
        version = getattr(info, "logic_version", "unknown")
        raise HardwareError(
            f"{name} (a {_kind(info)}, logic version {version}) took the bit file '{bits}' and does not answer: "
            f"the bit file is not for this board, or the chips have no power. {WHICH_BIT_FILE}"
        ) from error
    except BaseException:
        link.close()
        raise
    return board


def _bit_file(given: str | os.PathLike[str] | None) -> Path:
    """The bit file as a path, after making sure that it is there."""
    text = given or os.environ.get(BIT_FILE_VARIABLE)
    if not text:
        raise HardwareError(f"a real board needs a bit file for its FPGA, and none was given. {WHICH_BIT_FILE}")
    path = Path(text)
    if not path.is_file():
        raise HardwareError(f"the bit file '{path}' does not exist or is not a file. {WHICH_BIT_FILE}")
    return path


@contextmanager
def _asking(name: str, what: str) -> Iterator[None]:
    """Turn whatever samna raises in the block into a HardwareError."""
    try:
        yield
    except DynapseError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        taken = "initializeUSB" in reason or "error code : -3" in reason
        remedy = (
            "Another process holds the board, or ended without giving it back: end that process, or unplug the board and "
            "plug it in, and open it again."
            if taken
            else "Check cable and power, and open the board again."
        )
        raise HardwareError(f"{name}: {what} failed ({reason}). {remedy}") from error


# -- the link ---------------------------------------------------------------------------------------------------------


class SamnaLink:
    """A Link over samna's `interface` and its model; `sleep` and `monotonic` are the host's clock."""

    poll_interval = 5e-3

    def __init__(
        self,
        samna: Any,
        interface: Any,
        name: str,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.n_chips = name, 0
        self._samna, self._interface = samna, interface
        self._model: Any = None
        self._sleep, self._monotonic = sleep, monotonic
        self._config: Any = None
        self._held: Layout | None = None
        """What `_config` holds, or held before the FPGA was reset."""
        self._quiet, self._closed = True, False
        self._destinations: dict[tuple[int, ...], Any] = {}

    def start(self, bit_file: Path, n_chips: int) -> None:
        """Load the bit file, reset FPGA and chips (at most `n_chips`), and write samna's own first configuration."""
        interface = self._interface
        with _asking(self.name, f"loading the bit file '{bit_file}'"):
            loaded = interface.configure_opal_kelly(str(bit_file))
        if loaded is False:
            raise HardwareError(
                f"{self.name} refuses the bit file '{bit_file}'. Check that it is complete and made for this board. "
                f"{WHICH_BIT_FILE}"
            )
        self._reset_fpga()
        with _asking(self.name, "getting its model"):
            self._model = interface.get_model()
            count = len(self._model.get_configuration().chips)
            if hasattr(interface, "get_number_of_chips"):
                count = min(count, int(interface.get_number_of_chips()) or count)
        self.n_chips = min(count, n_chips)
        with _asking(self.name, f"resetting {self.n_chips} chip(s)"):
            self._model.reset(self._samna.dynapse2.ResetType.PowerCycle, (1 << self.n_chips) - 1)
        self._sleep(POWER_UP)
        # The configuration is a copy on the host, not read from the chips: only what was applied is known to be there.
        with _asking(self.name, "writing the first configuration"):
            self._config = self._model.get_configuration()
            self._model.apply_configuration(self._config)
            if hasattr(self._model, "clear_error_queue"):
                self._model.clear_error_queue()
        self._sleep(SETTLE)

    def _reset_fpga(self) -> None:
        self._sleep(PAUSE)
        with _asking(self.name, "resetting the FPGA"):
            done = self._interface.reset_fpga()
        if done is False:
            raise HardwareError(
                f"{self.name}: the FPGA cannot be reset. Check cable and power, and open the board again."
            )
        self._sleep(PAUSE)

    def configure(self, layout: Layout, quiet: bool) -> None:
        """Write what differs from the last time; everything after the FPGA was reset."""
        wanted = quiet_codes(layout) if quiet else layout
        everything = self._held is None
        if self._config is None:
            everything = True
            with _asking(self.name, "getting its configuration"):
                self._config = self._model.get_configuration()
        if self._held is not None:
            to_samna(wanted, self._config, previous=self._held)
        if everything:
            to_samna(wanted, self._config)
        self._held, self._quiet = wanted, False
        with _asking(self.name, "writing the configuration"):
            self._model.apply_configuration(self._config)
        self._sleep(SETTLE)
        self._quiet = quiet

    def send(self, events: np.ndarray) -> None:
        """Write events of GRID_DTYPE to the input bus."""
        with _asking(self.name, "writing events"):
            self._interface.input_interface_write_events(0, [self._event(*row) for row in events.tolist()])

    def _event(self, timestamp: int, *address: int) -> Any:
        event = self._samna.dynapse2.NormalGridEvent()
        if address not in self._destinations:
            tag, cores, x_hop, y_hop = address
            made = self._samna.dynapse2.Dynapse2Destination()
            made.core, made.x_hop, made.y_hop, made.tag = [bool(cores >> i & 1) for i in range(4)], x_hop, y_hop, tag
            self._destinations[address] = made
        event.event, event.timestamp = self._destinations[address], timestamp
        return event

    def receive(self) -> np.ndarray:
        """Everything that came back, of GRID_DTYPE."""
        with _asking(self.name, "reading events"):
            rows = [
                (received.timestamp, place.tag, MASKS[tuple(place.core)], place.x_hop, place.y_hop)
                for received in self._interface.read_events()
                for place in (received.event,)
            ]
            return np.array(rows, GRID_DTYPE)

    def time(self) -> float:
        return self._monotonic()

    def wait(self, seconds: float) -> None:
        self._sleep(seconds)

    def restart_clock(self) -> None:
        """Reset the FPGA; the next configuration is written completely."""
        self._config = None
        self._reset_fpga()

    def faults(self) -> list[str]:
        """Error events since the last call, in samna's words."""
        if not hasattr(self._model, "get_error_events"):
            return []
        with _asking(self.name, "reading its errors"):
            events = [" ".join(str(event).split())[:120] for event in self._model.get_error_events()]
            if events and hasattr(self._model, "clear_error_queue"):
                self._model.clear_error_queue()
        return events

    def close(self) -> None:
        """Quiet the chips, as far as they still listen, and give the device back."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._held is not None and not self._quiet:
                with suppress(Exception):
                    self.configure(self._held, quiet=True)
        finally:
            with suppress(Exception):
                self._samna.device.close_device(self._interface)


MASKS = {bits: sum(bit << i for i, bit in enumerate(bits)) for bits in product((False, True), repeat=4)}
"""Core mask by its four booleans."""
