"""From the inside out: NIR graphs, samna configurations."""
