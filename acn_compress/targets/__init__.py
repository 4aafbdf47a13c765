"""What a model can be exported to. Adding one: a file of its name, and the name in
`options.Format`."""

from acn_compress import options
from acn_compress.named import objects
from acn_compress.targets.base import Target

TARGETS: dict[str, Target] = objects(options.Format, __name__, "TARGET")
