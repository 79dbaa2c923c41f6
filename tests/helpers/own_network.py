"""README's "Your own network": its export of a network in snnTorch, with a training in place of the reader's."""

from __future__ import annotations

import re
from pathlib import Path

from places import ROOT

__all__ = ["commands", "export_program", "section_words"]

TRAINING = '''
def train(net, steps=300):
    """Yin-Yang: most spikes win."""
    def count(x):
        for layer in net:
            if hasattr(layer, "reset_mem"):
                layer.reset_mem()
        return sum(net(x[:, step]) for step in range(x.shape[1]))

    torch.manual_seed(0)
    torch.set_num_threads(1)
    with np.load({train!r}) as data:
        x, y = torch.tensor(data["x"], dtype=torch.float32), torch.tensor(data["y"], dtype=torch.long)
    with torch.no_grad():
        net[2].weight.mul_(0.3).add_(0.02)
    adam = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        some = torch.randint(len(x), (64,))
        loss = torch.nn.functional.cross_entropy(count(x[some]) / 4, y[some])
        adam.zero_grad()
        loss.backward()
        adam.step()
    with np.load({test!r}) as data, torch.no_grad():
        right = count(torch.tensor(data["x"], dtype=torch.float32)).argmax(1).numpy() == data["y"]
        print("accuracy in snnTorch:", right.mean())
        return data["x"], data["y"]
'''


def _section() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split("## Your own network", 1)[1].split("\n## ", 1)[0]


def section_words() -> int:
    """Words to read in that section."""
    return len(re.sub(r"```.*?```", "", _section(), flags=re.S).split())


def export_program(root: Path = ROOT) -> str:
    """The section's Python, with `train` defined: trains on the data of `root`'s examples, writes mine.nir and test.npz."""
    (block,) = re.findall(r"```python\n(.*?)```", _section(), re.S)
    head, _, rest = block.partition("net = ")
    data = {part: str(root / "examples" / "data" / f"yin_yang_{part}.npz") for part in ("train", "test")}
    return head + TRAINING.format(**data) + "\nnet = " + rest


def commands() -> list[list[str]]:
    """The section's command lines, word by word."""
    lines = re.findall(r"(?m)^(nir-dynapse .*)$", _section())
    return [line.split() for line in lines]
