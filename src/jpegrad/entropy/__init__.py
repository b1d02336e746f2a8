"""The entropy coder of baseline JPEG: symbols of the levels, Huffman tables, the scan and its size."""
