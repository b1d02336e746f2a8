"""The demonstration on real photographs: numbers (``study``), figures (``figures``), one HTML file (``report``)."""
