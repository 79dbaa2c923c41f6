"""A compiled network as a Lava process: `from nir_dynapse.lava_process.process import DynapSE2` (needs lava-nc 0.10)."""
