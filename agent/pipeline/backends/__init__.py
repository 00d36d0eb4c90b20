"""Where the work of a run is done: in this process, in one process a device, or on a Ray cluster."""
