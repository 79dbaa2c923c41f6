"""From a frontend's NIR file to a Lava program: fine-tune, compile, and run the network beside Lava's own processes.

    python3 -m uv run python examples/06_lava.py [--steps 300] [--samples 20] [-o out]

A source sends samples of the Yin-Yang task to the network of networks/yin_yang.nir (made with Norse by train_yin_yang.py),
as a virtual chip with mismatch has it; one Lava LIF neuron per class sends them on, and a sink records what it sends. Says
what to install and ends with code 3 where Lava is missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import nir_dynapse as nd
from nir_dynapse.reporting.rasters import raster_svg

try:
    # Before any import of Lava, which it repairs where that is needed.
    import nir_dynapse.lava_process  # isort: skip

    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF

    from nir_dynapse.lava_process.process import DynapSE2
    from nir_dynapse.lava_process.runtime.runner import LavaRun
except nd.NotInstalledError as missing:
    sys.stderr.write(f"This example runs in Lava: {missing}\n")
    sys.exit(3)

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of fine-tuning (default 300)")
    parser.add_argument("--samples", type=int, default=20, help="to run in Lava (default 20)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder for the picture (default out)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    # NIR file → network → trained against mismatch → chip configuration. This uses JAX; the workers of Lava do not.
    train = nd.Data.load(HERE / "data" / "yin_yang_train.npz")
    test = nd.Data.load(HERE / "data" / "yin_yang_test.npz")
    network = nd.from_nir(HERE / "networks" / "yin_yang.nir", dt=train.dt)
    mismatch, chip = nd.Mismatch.uniform(0.1), 3
    tuned = nd.fine_tune(network, train, mismatch=mismatch, devices=8, steps=args.steps, key=0)
    layout = nd.compile(network, params=tuned)

    # The Lava program: source → chip → Dense → LIF → sink.
    x, y = test.x[: args.samples], test.y[: args.samples]
    bins, classes = x.shape[1], int(test.y.max()) + 1
    process = DynapSE2(thing=layout, dt=test.dt, mismatch=mismatch, key=chip, name="chip")
    source = Source(data=np.concatenate(x).T.astype(float))
    votes = Dense(weights=np.eye(classes), num_message_bits=8)
    readout = LIF(shape=(classes,), du=1.0, dv=0.0, vth=0.5)  # sends on what its output neuron sends
    sink, hidden = Sink(shape=(classes,), buffer=bins), Sink(shape=process.spikes_out.shape, buffer=bins)
    source.s_out.connect(process.s_in)
    process.s_out.connect(votes.s_in)
    votes.a_out.connect(readout.a_in)
    readout.s_out.connect(sink.a_in)
    process.spikes_out.connect(hidden.a_in)
    answers, equal, pictures = [], True, {}
    expected = nd.simulate(layout, x, dt=test.dt, mismatch=mismatch, key=chip, backend="numpy")
    everything = np.concatenate(list(expected.spikes.values()), axis=2)
    with LavaRun(readout) as run:
        for sample in range(len(x)):
            run(bins)
            spikes, chip_spikes = sink.data.get().T, hidden.data.get().T
            answers.append(int(spikes.sum(0).argmax()))
            equal &= bool((chip_spikes == everything[sample]).all())
            if not pictures:
                pictures = {"events": x[0], "neurons of the chip": chip_spikes, "Lava LIF, one per class": spikes}
            process.reset()
            readout.v.set(np.zeros(classes))
    picture = args.out / "lava.svg"
    picture.write_text(raster_svg(pictures, dt=test.dt, title=f"Sample 0 of Yin-Yang, class {int(y[0])}"))
    right = int((np.array(answers) == y).sum())
    sys.stdout.write(
        f"{right} of {len(y)} samples right; the spikes are {'those' if equal else 'NOT those'} of simulate. "
        f"Picture: {picture}\n"
    )
    if not equal:
        sys.exit(1)


if __name__ == "__main__":
    main()
