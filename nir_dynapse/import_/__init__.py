"""From the outside in: NIR files and graphs, samna configurations."""
