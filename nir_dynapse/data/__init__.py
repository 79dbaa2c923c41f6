"""What goes into a network and comes out, without circuits or bits: `Data` and `Events` (in `data`), `Recording`,
encoders of signals, NIR's own containers of recordings; files of events are read here, too.

May import `errors`, `files`, `chip` and `network`.
"""
