"""The size of the file: exact bits (``huffman``), and models of it that have a slope (``proxy``)."""
