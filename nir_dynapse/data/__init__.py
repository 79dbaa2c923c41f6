"""What goes into a network and comes out: `Data`, `Events`, `Recording`, encoders, and NIR's own containers of
recordings.

May import what `network` may, and `network`; knows neither circuits nor bits.
"""
