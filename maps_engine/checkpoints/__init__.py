"""From a name to an opened checkpoint: find or fetch the files, read tensors lazily, spell and encode tokens.

`opening.open_checkpoint` is the way in. `weights` reads any model of a known family; what differs between families is
data in `families`, what differs between files is in `formats`. `blocks`
runs the blocks of a model, one at a time, for what its heads really read.

May import `maps_engine.errors`, `maps_engine.finite`, `maps_engine.folders`, `maps_engine.model` and
`maps_engine.results`.
"""
