"""What a model can be timed in. Adding one: a file of its name, and the name in
`options.Backend`."""

from acn_compress import options
from acn_compress.backends.base import Backend
from acn_compress.named import objects

BACKENDS: dict[str, Backend] = objects(options.Backend, __name__, "BACKEND")
